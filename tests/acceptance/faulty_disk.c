/* A disk that fails on demand, for LD_PRELOAD: while the file named by FAULTY_DISK exists, what it says fails.
 *
 * Its text is "full" (writing gives ENOSPC) or "fsync" (syncing gives EIO). Only files whose path holds "store" fail.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static int fault(int fd, const char *wanted) {
    const char *trigger = getenv("FAULTY_DISK");
    char text[16] = "", link[64], path[4096];
    int saved = errno, found;
    ssize_t length;
    if (trigger == NULL) return 0;
    found = syscall(SYS_openat, AT_FDCWD, trigger, O_RDONLY | O_CLOEXEC);
    if (found < 0) { errno = saved; return 0; }
    length = syscall(SYS_read, found, text, sizeof text - 1);
    syscall(SYS_close, found);
    errno = saved;
    if (length <= 0 || strncmp(text, wanted, strlen(wanted)) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (length <= 0) return 0;
    path[length] = '\0';
    return strstr(path, "store") != NULL && strstr(path, ".lock") == NULL;
}

#define FAILS(fd, wanted, code) if (fault(fd, wanted)) { errno = code; return -1; }
#define NEXT(function) \
    static __typeof__(&function) next; \
    if (next == NULL) next = (__typeof__(&function))dlsym(RTLD_NEXT, #function)

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    NEXT(pwrite64);
    FAILS(fd, "full", ENOSPC)
    return next(fd, data, size, at);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    NEXT(pwrite);
    FAILS(fd, "full", ENOSPC)
    return next(fd, data, size, at);
}

ssize_t write(int fd, const void *data, size_t size) {
    NEXT(write);
    FAILS(fd, "full", ENOSPC)
    return next(fd, data, size);
}

int fsync(int fd) {
    NEXT(fsync);
    FAILS(fd, "fsync", EIO)
    return next(fd);
}

int fdatasync(int fd) {
    NEXT(fdatasync);
    FAILS(fd, "fsync", EIO)
    return next(fd);
}
