/*
 * The physical limit: acknowledges each line with an id, one write for each read, and does nothing else; no JSON, no
 * token, no inbox. One connection at a time. Usage: server SOCKET_PATH
 */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char input[1 << 18];
static char output[1 << 21];

static int write_all(int fd, const char *bytes, size_t length) {
  while (length > 0) {
    ssize_t n = write(fd, bytes, length);
    if (n <= 0) return -1;
    bytes += n;
    length -= (size_t)n;
  }
  return 0;
}

static void serve(int fd) {
  unsigned long id = 0;
  for (;;) {
    ssize_t n = read(fd, input, sizeof input);
    if (n <= 0) return;
    size_t length = 0;
    char *end = input + n;
    for (char *at = input; (at = memchr(at, '\n', (size_t)(end - at))) != NULL; at++) {
      length += (size_t)sprintf(output + length,
        "{\"type\":\"response\",\"data\":\"ok\",\"ts\":\"2026-01-01T00:00:00.000Z\",\"meta\":{\"id\":\"uds-%lu\"}}\n", ++id);
      if (length > sizeof output - 256) {
        if (write_all(fd, output, length) != 0) return;
        length = 0;
      }
    }
    if (write_all(fd, output, length) != 0) return;
  }
}

int main(int argc, char **argv) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (argc != 2 || strlen(argv[1]) >= sizeof address.sun_path) return 2;
  strcpy(address.sun_path, argv[1]);
  int listener = socket(AF_UNIX, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 128) != 0) return 1;
  puts("listening");
  fflush(stdout);
  for (;;) {
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) return 1;
    serve(fd);
    close(fd);
  }
}
