// Many short connections, for `.ci/kernels`: opens IDLE connections that stay open, then opens and closes STORM more.
// Some are reset, and some are closed before they have sent anything. Then it checks that the kernel has as many open
// files as before.
//
//     storm PORT IDLE STORM
//
// Or attackers that hold descriptors: HOLDERS clients that say nothing, half a CONNECT, or what is not STOMP, and never
// close. The broker must end them all, have closed its ends though they keep theirs, and answer an honest client
// meanwhile and a new one afterwards.
//
//     storm hold PORT HOLDERS
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int connect_to(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        perror("connect");
        exit(1);
    }
    return fd;
}

static void say(int fd, const char *text) {
    if (write(fd, text, strlen(text) + 1) < 0) perror("write");
}

static void log_in(int fd) {
    char answer[512];
    say(fd, "CONNECT\naccept-version:1.2\nhost:localhost\n\n");
    if (read(fd, answer, sizeof answer) < 10 || memcmp(answer, "CONNECTED\n", 10) != 0) {
        fprintf(stderr, "no CONNECTED\n");
        exit(1);
    }
}

static void reset(int fd) {
    struct linger linger = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(fd);
}

static long open_files(void) {
    long count = -1;
    FILE *file = fopen("/proc/sys/fs/file-nr", "r");
    if (!file || fscanf(file, "%ld", &count) != 1) exit(1);
    fclose(file);
    return count;
}

// The kernel counts files per CPU and in batches, and frees them with a delay.
static long settled_open_files(long wanted) {
    for (int i = 0; i < 200 && open_files() > wanted; i++) nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    return open_files();
}

static int is_answered(int fd) {
    char answer[256];
    say(fd, "SEND\ndestination:/topic/nobody\nreceipt:r\n\n");
    return read(fd, answer, sizeof answer) >= 8 && memcmp(answer, "RECEIPT\n", 8) == 0;
}

// Reads until the end of the stream.
static int has_ended(int fd) {
    char bytes[1024];
    for (;;) {
        ssize_t result = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (result <= 0) return result == 0 || (errno != EAGAIN && errno != EINTR);
    }
}

static int hold(int port, int holder_count) {
    enum { slack = 64, second_count = 60 };
    int honest = connect_to(port);
    log_in(honest);
    long before = open_files();
    int *holders = calloc((size_t)holder_count, sizeof *holders);
    for (int i = 0; i < holder_count; i++) {
        holders[i] = connect_to(port);
        // One may be refused and reset already.
        if (i % 3 == 1) send(holders[i], "CONNECT\naccept-", 15, MSG_NOSIGNAL);
        if (i % 3 == 2) send(holders[i], "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL);
        if (i % 100 == 0 && !is_answered(honest)) {
            fprintf(stderr, "the honest client had no answer beside %d holders\n", i);
            return 1;
        }
    }
    long most = open_files();
    int ended = 0;
    for (int tick = 0; tick < second_count * 10 && ended < holder_count; tick++) {
        ended = 0;
        for (int i = 0; i < holder_count; i++) ended += has_ended(holders[i]);
        if (!is_answered(honest)) {
            fprintf(stderr, "the honest client was lost beside the holders\n");
            return 1;
        }
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    // What is left are the attackers' own ends.
    long after = settled_open_files(before + holder_count + slack);
    int newcomer = connect_to(port);
    log_in(newcomer);
    printf("open files: %ld, at most %ld with %d holders, of which %d were ended, %ld then\n", before, most,
        holder_count, ended, after);
    return ended < holder_count || after > before + holder_count + slack || !is_answered(honest) ||
           !is_answered(newcomer);
}

int main(int count, char **arguments) {
    if (count != 4) return 2;
    if (strcmp(arguments[1], "hold") == 0) return hold(atoi(arguments[2]), atoi(arguments[3]));
    int port = atoi(arguments[1]), idle_count = atoi(arguments[2]), storm_count = atoi(arguments[3]);
    enum { slack = 64 };
    int *idle = calloc((size_t)idle_count, sizeof *idle);
    for (int i = 0; i < idle_count; i++) log_in(idle[i] = connect_to(port));
    long before = open_files(), most = before;
    for (int i = 0; i < storm_count; i++) {
        int fd = connect_to(port);
        if (i % 4 != 3) log_in(fd);
        if (i % 2) reset(fd);
        else close(fd);
        if (i % 500 == 499 && open_files() > most) most = open_files();
    }
    long after = settled_open_files(before + slack);
    // The idle connections still work.
    for (int i = 0; i < idle_count; i++) {
        char answer[256];
        say(idle[i], "DISCONNECT\nreceipt:bye\n\n");
        if (read(idle[i], answer, sizeof answer) < 8 || memcmp(answer, "RECEIPT\n", 8) != 0) {
            fprintf(stderr, "idle connection %d was lost\n", i);
            return 1;
        }
        close(idle[i]);
    }
    long end = settled_open_files(before - 2 * idle_count + slack);
    printf("open files: %ld with %d idle connections, at most %ld during %d more, %ld after, %ld in the end\n", before,
        idle_count, most, storm_count, after, end);
    return after > before + slack || end > before - 2 * idle_count + slack;
}
