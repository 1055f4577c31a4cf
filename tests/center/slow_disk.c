// SPDX-License-Identifier: Apache-2.0
// A disk that takes its time: preloaded (LD_PRELOAD), it stands before fsync and fdatasync. The file that
// SLOW_DISK names says what they do, anew at each call: nothing in it, sync as ever; "N", wait N ms first;
// "stuck", wait until it says something else; "fail", the disk has an error.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int on_disk(const char *name, int fd) {
    for (;;) {
        char mood[16] = "";
        const char *path = getenv("SLOW_DISK");
        int control = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        if (control >= 0) {
            if (read(control, mood, sizeof mood - 1) < 0) mood[0] = 0;
            close(control);
        }
        if (!strncmp(mood, "fail", 4)) {
            errno = EIO;
            return -1;
        }
        if (!strncmp(mood, "stuck", 5)) {
            usleep(10000);
            continue;
        }
        if (mood[0]) usleep(1000 * atoi(mood));
        break;
    }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return real(fd);
}

int fsync(int fd) { return on_disk("fsync", fd); }
int fdatasync(int fd) { return on_disk("fdatasync", fd); }
