/*
 * A load generator that is not the limit: keeps IN_FLIGHT frames of protocol 1 on one connection in flight for MILLIS,
 * after 50 ms that are not counted. Prints acks, nanoseconds and microseconds of its own CPU time.
 * Usage: load SOCKET_PATH TOKEN BYTES IN_FLIGHT MILLIS
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static char input[1 << 18];

static long nanos(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000L + now.tv_nsec;
}

static long cpu_micros(void) {
  struct rusage use;
  getrusage(RUSAGE_SELF, &use);
  return (use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000000L + use.ru_utime.tv_usec + use.ru_stime.tv_usec;
}

static void write_all(int fd, const char *bytes, size_t length) {
  while (length > 0) {
    ssize_t n = write(fd, bytes, length);
    if (n <= 0) exit(1);
    bytes += n;
    length -= (size_t)n;
  }
}

int main(int argc, char **argv) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (argc != 6 || strlen(argv[1]) >= sizeof address.sun_path) return 2;
  strcpy(address.sun_path, argv[1]);
  int bytes = atoi(argv[3]), in_flight = atoi(argv[4]);
  long millis = atol(argv[5]);

  size_t size = (size_t)bytes + strlen(argv[2]) + 128;
  char *data = malloc((size_t)bytes + 1), *frame = malloc(size), *frames = malloc(size * (size_t)in_flight);
  memset(data, 'x', (size_t)bytes);
  data[bytes] = 0;
  size_t length = (size_t)snprintf(frame, size,
    "{\"type\":\"text\",\"data\":\"%s\",\"meta\":{\"authToken\":\"%s\"}}\n", data, argv[2]);
  for (int i = 0; i < in_flight; i++) memcpy(frames + (size_t)i * length, frame, length);

  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) return 1;
  write_all(fd, frames, (size_t)in_flight * length);
  long acks = 0, start = 0, cpu = 0, begin = nanos();
  for (;;) {
    ssize_t n = read(fd, input, sizeof input);
    if (n <= 0) return 1;
    long got = 0;
    char *end = input + n;
    for (char *at = input; (at = memchr(at, '\n', (size_t)(end - at))) != NULL; at++) got++;
    /* A refusal is the server's last word: `"error"` in place of `"response"`. */
    if (n > 9 && memcmp(input, "{\"type\":\"e", 10) == 0) return 3;
    long now = nanos();
    if (start == 0 && now - begin > 50000000L) {
      start = now;
      cpu = cpu_micros();
    } else if (start != 0) {
      acks += got;
      if (now - start > millis * 1000000L) {
        printf("%ld %ld %ld\n", acks, now - start, cpu_micros() - cpu);
        return 0;
      }
    }
    write_all(fd, frames, (size_t)got * length);
  }
}
