/*
 * netloom-cni: the executable that container runtimes call. It hands stdin and the CNI environment
 * to the agent over its unix socket and prints what the agent answers; nothing else happens here.
 *
 *   POST /cni/<COMMAND>, body = stdin as it is, each variable a header with every byte that is not
 *   plain percent-encoded. Answer 200: printed, exit 0. Any other of the agent's CNI answers:
 *   printed, exit 1. Everything that goes wrong on the way is a CNI error of our own.
 *
 * front.py does the same for machines without a C compiler; one table of tests holds them together.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define VERSIONS "\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\""
#define DEFAULT_SOCKET "/run/netloom/agent.sock"
#define ANSWER_TYPE "application/vnd.netloom.cni+json"
#define LOOK "is it running? look with: systemctl status netloom"
#define LIMIT_BYTES ((size_t)8 << 20)
#define LIMIT_S 60
#define PATIENCE_S 2 /* an agent that is being upgraded is back within it */

enum { BAD_ENVIRONMENT = 4, IO_FAILURE = 5, INVALID_CONFIG = 7, TRY_AGAIN_LATER = 11,
       NOT_AVAILABLE = 50, NOT_PERMITTED = 102, BUG = 999 };

struct buffer { char *data; size_t length, room; };

static const char *command = "";
static char version[16] = "1.1.0";
static const char *volatile late; /* what the alarm prints; whole at every moment */

static void write_all(const char *data, size_t length)
{
    while (length > 0) {
        ssize_t done = write(STDOUT_FILENO, data, length);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            _exit(1);
        data += done;
        length -= (size_t)done;
    }
}

/* Append `text` as the inside of a JSON string; bytes that are not ASCII become '?'. */
static size_t quote(char *out, size_t room, const char *text)
{
    size_t used = 0;
    for (; *text && used + 2 < room; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte == '"' || byte == '\\')
            out[used++] = '\\';
        out[used++] = byte < 0x20 || byte > 0x7e ? '?' : (char)byte;
    }
    out[used] = '\0';
    return used;
}

static void render(char *out, size_t room, int code, const char *message, const char *details)
{
    char quoted[1024];
    quote(quoted, sizeof quoted, message);
    snprintf(out, room, "{\"cniVersion\":\"%s\",\"code\":%d,\"msg\":\"%s\",\"details\":\"%s\"}\n",
             version, code, quoted, details);
}

__attribute__((noreturn, format(printf, 3, 4)))
static void fail(int code, const char *details, const char *format, ...)
{
    char message[512], out[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    alarm(0);
    render(out, sizeof out, code, message, details);
    write_all(out, strlen(out));
    exit(1);
}

static int away(void)
{
    return strcmp(command, "STATUS") == 0 ? NOT_AVAILABLE : TRY_AGAIN_LATER;
}

static void too_late(int signal_number)
{
    (void)signal_number;
    write_all(late, strlen(late));
    _exit(1);
}

/* Prepare the alarm's text for the version known now: the first time, and when it is read. */
static void prepare_alarm(int limit_s)
{
    static char texts[2][512];
    static int next;
    char message[64];
    snprintf(message, sizeof message, "no answer within %d s", limit_s);
    render(texts[next], sizeof texts[0], away(), message, LOOK);
    late = texts[next++ & 1];
}

static void append(struct buffer *buffer, const char *data, size_t length)
{
    if (length > LIMIT_BYTES * 2 || buffer->length > LIMIT_BYTES * 2)
        fail(IO_FAILURE, "", "more than %zu bytes to hold", LIMIT_BYTES);
    if (buffer->room - buffer->length < length) {
        size_t room = (buffer->length + length) * 2 + 4096;
        char *grown = realloc(buffer->data, room);
        if (grown == NULL)
            fail(IO_FAILURE, "", "out of memory");
        buffer->data = grown;
        buffer->room = room;
    }
    memcpy(buffer->data + buffer->length, data, length);
    buffer->length += length;
}

static void append_text(struct buffer *buffer, const char *text)
{
    append(buffer, text, strlen(text));
}

/* Read `fd` to its end. Returns false on an error; more than the limit ends the program. */
static bool read_all(int fd, struct buffer *buffer, const char *what)
{
    char chunk[16384];
    for (;;) {
        ssize_t got = read(fd, chunk, sizeof chunk);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got == 0;
        append(buffer, chunk, (size_t)got);
        if (buffer->length > LIMIT_BYTES)
            fail(IO_FAILURE, "", "%s has more than %zu bytes", what, LIMIT_BYTES);
    }
}

/* Decode the JSON string of `length` bytes into `out`; false when it does not fit or is odd. */
static bool unquote(const char *text, size_t length, char *out, size_t room)
{
    static const char from[] = "\"\\/", digits[] = "0123456789abcdef";
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned long code = (unsigned char)text[i];
        bool escaped = false;
        if (text[i] == '\\' && i + 5 < length && text[i + 1] == 'u') {
            code = 0;
            for (size_t j = i + 2; j < i + 6; j++) {
                const char *digit = strchr(digits, tolower((unsigned char)text[j]));
                if (text[j] == '\0' || digit == NULL)
                    return false;
                code = code * 16 + (unsigned long)(digit - digits);
            }
            i += 5;
            escaped = true;
        } else if (text[i] == '\\') {
            if (++i >= length || text[i] == '\0' || strchr(from, text[i]) == NULL)
                return false;
            code = (unsigned char)text[i];
        }
        size_t width = !escaped || code < 0x80 ? 1 : code < 0x800 ? 2 : 3;
        if (code == 0 || (code >= 0xd800 && code < 0xe000) || used + width >= room)
            return false;
        if (width == 1) {
            out[used++] = (char)code;
        } else if (width == 2) {
            out[used++] = (char)(0xc0 | code >> 6);
            out[used++] = (char)(0x80 | (code & 0x3f));
        } else {
            out[used++] = (char)(0xe0 | code >> 12);
            out[used++] = (char)(0x80 | (code >> 6 & 0x3f));
            out[used++] = (char)(0x80 | (code & 0x3f));
        }
    }
    out[used] = '\0';
    return true;
}

/*
 * Find the string value of a key of the outermost object, the last one as JSON readers do. Returns
 * 1 and fills `out`, 0 when there is none, -1 when it cannot be decoded. What is not JSON at all is
 * for the agent to refuse: it parses, we only look.
 */
static int find_string(const struct buffer *json, const char *key, char *out, size_t room)
{
    enum { NOTHING, KEY, COLON } seen = NOTHING;
    int depth = 0, found = 0;
    for (size_t i = 0; i < json->length; i++) {
        char c = json->data[i];
        if (c == '"') {
            size_t start = ++i;
            while (i < json->length && json->data[i] != '"')
                i += json->data[i] == '\\' ? 2 : 1;
            if (i >= json->length)
                return found;
            const char *text = json->data + start;
            size_t length = i - start;
            if (seen == COLON)
                found = unquote(text, length, out, room) ? 1 : -1;
            bool matches = depth == 1 && length == strlen(key) && memcmp(text, key, length) == 0;
            seen = seen != COLON && matches ? KEY : NOTHING;
        } else if (!isspace((unsigned char)c)) {
            depth += (c == '{' || c == '[') - (c == '}' || c == ']');
            seen = c == ':' && depth == 1 && seen == KEY ? COLON : NOTHING;
        }
    }
    return found;
}

static void find_version(const struct buffer *config)
{
    char found[sizeof version];
    if (find_string(config, "cniVersion", found, sizeof found) == 1 && *found != '\0' &&
        strspn(found, "0123456789.") == strlen(found))
        memcpy(version, found, sizeof version);
}

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value != NULL ? value : "";
}

/* Read a whole number from the environment; `fallback` unless it is one between low and high. */
static int number(const char *name, int low, int high, int fallback)
{
    const char *text = variable(name);
    char *end = NULL;
    long value = strtol(text, &end, 10);
    return *text && *end == '\0' && value >= low && value <= high ? (int)value : fallback;
}

static void append_header(struct buffer *request, const char *name, const char *value)
{
    static const char plain[] = "-._~/:=,;@+", hex[] = "0123456789ABCDEF";
    append_text(request, name);
    append_text(request, ": ");
    for (; *value; value++) {
        unsigned char byte = (unsigned char)*value;
        char coded[3] = {'%', hex[byte >> 4], hex[byte & 15]};
        bool as_is = byte < 0x80 && (isalnum(byte) || strchr(plain, byte) != NULL);
        append(request, as_is ? value : coded, as_is ? 1 : 3);
    }
    append_text(request, "\r\n");
}

static void build_request(struct buffer *request, const struct buffer *config)
{
    static const char *const headers[][2] = {
        {"CNI_CONTAINERID", "X-CNI-ContainerID"}, {"CNI_NETNS", "X-CNI-NetNS"},
        {"CNI_IFNAME", "X-CNI-IfName"},           {"CNI_ARGS", "X-CNI-Args"},
        {"CNI_PATH", "X-CNI-Path"},               {"CNI_NETNS_OVERRIDE", "X-CNI-NetNS-Override"},
        {"TRACEPARENT", "Traceparent"},           {"TRACESTATE", "Tracestate"},
        {"BAGGAGE", "Baggage"},
    };
    char line[128];
    snprintf(line, sizeof line, "POST /cni/%s HTTP/1.1\r\nHost: netloom\r\n", command);
    append_text(request, line);
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++)
        if (*variable(headers[i][0]))
            append_header(request, headers[i][1], variable(headers[i][0]));
    struct stat netns; /* which namespace the path means to us: the agent may see another one */
    if (*variable("CNI_NETNS") && stat(variable("CNI_NETNS"), &netns) == 0) {
        snprintf(line, sizeof line, "X-CNI-NetNS-Inode: %ju:%ju\r\n", (uintmax_t)netns.st_dev,
                 (uintmax_t)netns.st_ino);
        append_text(request, line);
    }
    snprintf(line, sizeof line,
             "Content-Type: application/json\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
             config->length);
    append_text(request, line);
    append(request, config->data ? config->data : "", config->length);
}

static void find_socket(const struct buffer *config, char *path, size_t room)
{
    const char *wanted = variable("NETLOOM_SOCKET");
    int found = *wanted ? 1 : find_string(config, "agentSocket", path, room);
    if (found < 0 || strlen(wanted) >= room)
        fail(*wanted ? BAD_ENVIRONMENT : INVALID_CONFIG, "", "%s: not a path of at most %zu bytes",
             *wanted ? "NETLOOM_SOCKET" : "agentSocket", room - 1);
    if (*wanted || found == 0)
        strcpy(path, *wanted ? wanted : DEFAULT_SOCKET); /* both lengths are known to fit */
}

/* Connect; where nobody listens, look again for a while, unless all we are asked is the status. */
static int reach(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
    int tries = number("NETLOOM_CNI_PATIENCE", 0, LIMIT_S, PATIENCE_S) * 50;
    memcpy(address.sun_path, path, strlen(path) + 1);
    for (;;) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
            return fd;
        if (errno == EACCES || errno == EPERM)
            fail(NOT_PERMITTED, "run it as root", "may not use the agent's socket %s", path);
        bool absent = fd >= 0 && (errno == ENOENT || errno == ECONNREFUSED);
        if (!absent || strcmp(command, "STATUS") == 0 || tries-- <= 0)
            fail(away(), LOOK, "cannot reach Netloom's agent at %s: %s", path, strerror(errno));
        close(fd);
        nanosleep(&pause, NULL);
    }
}

/* Send the request and read the whole answer. */
static void exchange(const char *path, const struct buffer *request, struct buffer *answer)
{
    int fd = reach(path);
    /* An agent may refuse before it has read all: what it answered counts, not our failed send. */
    for (size_t sent = 0; sent < request->length;) {
        ssize_t done = send(fd, request->data + sent, request->length - sent, MSG_NOSIGNAL);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            break;
        sent += (size_t)done;
    }
    if (!read_all(fd, answer, "the answer") && answer->length == 0)
        fail(away(), LOOK, "the agent at %s went away: %s", path, strerror(errno));
}

/* Print the agent's answer and return the exit code. */
static int print_answer(const char *path, struct buffer *answer)
{
    append(answer, "", 1); /* a NUL, so that the head can be searched as text */
    int status = 0;
    const char *end = strstr(answer->data, "\r\n\r\n");
    if (end == NULL || sscanf(answer->data, "HTTP/1.%*1d %3d", &status) != 1)
        fail(away(), LOOK, "the agent at %s went away before it had answered", path);
    const char *body = end + 4;
    size_t head = (size_t)(body - answer->data), length = answer->length - 1 - head;
    answer->data[head - 1] = '\0';
    const char *field = strcasestr(answer->data, "\r\nContent-Length:");
    char *rest = NULL;
    unsigned long long promised = field ? strtoull(field + 17, &rest, 10) : 0;
    if (field == NULL || rest == field + 17 || length != promised)
        fail(away(), LOOK, "the agent at %s went away in the middle of its answer", path);
    if (strcasestr(answer->data, "\r\nContent-Type: " ANSWER_TYPE) == NULL)
        fail(status == 403 ? NOT_PERMITTED : BUG, "is the agent of the same version?",
             "the agent at %s answered HTTP %d: %.200s", path, status, body);
    alarm(0); /* from here on nobody but the reader of our output can keep us */
    write_all(body, length);
    return status == 200 ? 0 : 1;
}

static int answer_version(void)
{
    char out[256];
    struct buffer config = {0};
    /* The list does not depend on stdin, so a person at a terminal need not end it. */
    if (!isatty(STDIN_FILENO) && read_all(STDIN_FILENO, &config, "stdin"))
        find_version(&config);
    alarm(0);
    snprintf(out, sizeof out, "{\"cniVersion\":\"%s\",\"supportedVersions\":[" VERSIONS "]}\n",
             version);
    write_all(out, strlen(out));
    return 0;
}

int main(void)
{
    static const char *const commands[] = {"ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"};
    size_t known = 0;
    command = variable("CNI_COMMAND");
    while (known < 6 && strcmp(command, commands[known]) != 0)
        known++;
    if (*command == '\0')
        fail(BAD_ENVIRONMENT, "container runtimes call this program; see `netloom install`",
             "required environment variable CNI_COMMAND is missing");
    if (known == 6)
        fail(BAD_ENVIRONMENT, "", "unknown CNI_COMMAND: %s", command);
    int limit_s = number("NETLOOM_CNI_TIMEOUT", 1, 3600, LIMIT_S);
    prepare_alarm(limit_s);
    signal(SIGALRM, too_late);
    signal(SIGPIPE, SIG_IGN);
    alarm((unsigned)limit_s);
    if (strcmp(command, "VERSION") == 0)
        return answer_version();

    struct buffer config = {0}, request = {0}, answer = {0};
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
    if (!read_all(STDIN_FILENO, &config, "the configuration"))
        fail(IO_FAILURE, "", "cannot read the configuration from stdin: %s", strerror(errno));
    find_version(&config);
    prepare_alarm(limit_s);
    find_socket(&config, path, sizeof path);
    build_request(&request, &config);
    exchange(path, &request, &answer);
    return print_answer(path, &answer);
}
