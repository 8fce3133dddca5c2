// Many short connections, for `.ci/kernels`: opens IDLE connections that stay open, then opens and closes STORM more.
// Some are reset, and some are closed before they have sent anything. Then it checks that the kernel has as many open
// files as before.
//
//     storm PORT IDLE STORM
#include <arpa/inet.h>
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

int main(int count, char **arguments) {
    if (count != 4) return 2;
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
