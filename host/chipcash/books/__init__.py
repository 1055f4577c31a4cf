# SPDX-License-Identifier: Apache-2.0
"""What is done with the books of tills: reconciled with center and bank, exported, disputes made cases."""
