# SPDX-License-Identifier: Apache-2.0
"""What alembic runs: the steps, over the connection that it was given (see upgrade())."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection)
context.run_migrations()
