/* A disk that fails under the database: reads, writes and syncs of counters.db and its companions
   end with EIO while the file `database-fault` beside the state folder names them: r, w, s.
   Preloaded into every process of a daemon; SQLite calls these by their names. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static int fails(int fd, char what)
{
    char name[64], path[PATH_MAX], said[8];
    const char *state = getenv("FAIRVISOR_STATE_DIR");
    int kept = errno;
    ssize_t size = -1;
    if (state == NULL)
        return 0;
    snprintf(path, sizeof path, "%s/../database-fault", state);
    int from = open(path, O_RDONLY | O_CLOEXEC);
    if (from >= 0) {
        size = syscall(SYS_read, from, said, sizeof said);
        close(from);
    }
    if (size > 0 && memchr(said, what, size) != NULL) {
        snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
        size = readlink(name, path, sizeof path - 1);
        path[size < 0 ? 0 : size] = 0;
        if (strstr(path, "/counters.db") != NULL) {
            errno = EIO;
            return 1;
        }
    }
    errno = kept;
    return 0;
}

#define INSTEAD(type, name, what, parameters, arguments)               \
    type name parameters                                               \
    {                                                                  \
        static type(*real) parameters;                                 \
        if (fails(fd, what))                                           \
            return -1;                                                 \
        if (real == NULL)                                              \
            real = (type(*) parameters)dlsym(RTLD_NEXT, #name);        \
        return real arguments;                                         \
    }

INSTEAD(ssize_t, pread, 'r', (int fd, void *into, size_t size, off_t at), (fd, into, size, at))
INSTEAD(ssize_t, pread64, 'r', (int fd, void *into, size_t size, off64_t at), (fd, into, size, at))
INSTEAD(ssize_t, pwrite, 'w', (int fd, const void *from, size_t size, off_t at), (fd, from, size, at))
INSTEAD(ssize_t, pwrite64, 'w', (int fd, const void *from, size_t size, off64_t at), (fd, from, size, at))
INSTEAD(int, fsync, 's', (int fd), (fd))
INSTEAD(int, fdatasync, 's', (int fd), (fd))
