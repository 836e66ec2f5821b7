/* novashimctl: asks a running novashim over its control socket.
 *
 *     novashimctl [--socket PATH] [--json] status | migration list */

#include "base/clock.h"
#include "base/err.h"
#include "base/jv.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define DEFAULT_SOCKET "/run/novashim/control.sock"

static const char usage_text[] =
    "usage: novashimctl [--socket PATH] [--json] COMMAND\n"
    "\n"
    "  status           the service: bus, heartbeat, lanes, resources\n"
    "  migration list   live migrations that leave this host\n"
    "\n"
    "  --socket PATH    control socket (default " DEFAULT_SOCKET ")\n"
    "  --json           the answer as JSON\n"
    "  --version, --help\n";

static struct err *ask(const char *path, const char *command, struct json_object **ret)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    CLEANUP(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CLEANUP(strbuf_fini) struct strbuf answer = {0};
    CLEANUP(jv_putp) struct json_object *request = json_object_new_object();
    struct timeval limit = {.tv_sec = 10};
    char buf[4096];
    ssize_t n;

    if (fd < 0 || strlen(path) >= sizeof(addr.sun_path)) {
        return err_msg(ERR_CONFIG, "'%s' cannot be a socket", path);
    }
    memcpy(addr.sun_path, path, strlen(path) + 1);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        return err_errno(errno, "no novashim answers on %s", path);
    }
    jv_add_str(request, "command", command);
    CLEANUP(freep) char *text = jv_text(request);
    CLEANUP(freep) char *line = str_printf("%s\n", text);

    if (write(fd, line, strlen(line)) != (ssize_t)strlen(line)) {
        return err_errno(errno, "asking on %s", path);
    }
    while ((n = read(fd, buf, sizeof(buf))) > 0) {
        strbuf_add_mem(&answer, buf, (size_t)n);
    }
    if (!answer.len) {
        return err_msg(ERR_TIMEOUT, "novashim on %s did not answer", path);
    }
    while (answer.len && answer.s[answer.len - 1] == '\n') {
        answer.len--;
    }
    return jv_parse(answer.s, answer.len, ret);
}

static void print_value(const char *name, struct json_object *value, int indent)
{
    if (json_object_is_type(value, json_type_object)) {
        printf("%*s%s\n", indent, "", name);
        json_object_object_foreach(value, key, child)
        {
            print_value(key, child, indent + 2);
        }
    } else if (json_object_is_type(value, json_type_array)) {
        printf("%*s%-*s %zu\n", indent, "", 24 - indent, name, json_object_array_length(value));
    } else {
        printf("%*s%-*s %s\n", indent, "", 24 - indent, name, json_object_get_string(value));
    }
}

static void print_migration(struct json_object *m)
{
    struct jv_reader r = jv_reader_init(m, "migration");
    int64_t total = jv_int_or(&r, "memory_total", 0), left = jv_int_or(&r, "memory_remaining", 0);

    printf("%-36s  to %-16s  %-12s  %3lld%%  %6lld MiB left  %5lld MiB/s  %6.1f s\n",
           jv_str_or(&r, "server", "-"), jv_str_or(&r, "destination", "-"),
           jv_str_or(&r, "phase", "-"), (long long)(total ? 100 - left * 100 / total : 0),
           (long long)(left >> 20), (long long)(jv_int_or(&r, "memory_bps", 0) >> 20),
           (double)jv_int_or(&r, "elapsed_ms", 0) / 1000);
    err_free(jv_finish(&r));
}

static void print_answer(struct json_object *answer, bool as_json)
{
    if (as_json) {
        puts(json_object_to_json_string_ext(answer, JSON_C_TO_STRING_PRETTY));
    } else if (json_object_is_type(answer, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(answer); i++) {
            print_migration(json_object_array_get_idx(answer, i));
        }
    } else {
        json_object_object_foreach(answer, key, value)
        {
            print_value(key, value, 0);
        }
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"socket", required_argument, NULL, 's'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"version", no_argument, NULL, 'v'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    const char *path = DEFAULT_SOCKET;
    struct strv words = {0};
    bool as_json = false;
    int opt;

    while ((opt = getopt_long(argc, argv, "s:jvh", options, NULL)) != -1) {
        switch (opt) {
        case 's':
            path = optarg;
            break;
        case 'j':
            as_json = true;
            break;
        case 'v':
            puts("novashimctl " NOVASHIM_VERSION);
            return 0;
        case 'h':
            fputs(usage_text, stdout);
            return 0;
        default:
            fputs(usage_text, stderr);
            return 2;
        }
    }
    for (int i = optind; i < argc; i++) {
        strv_add(&words, argv[i]);
    }
    if (!words.n) {
        fputs(usage_text, stderr);
        return 2;
    }
    CLEANUP(freep) char *command = strv_join(&words, " ");
    CLEANUP(jv_putp) struct json_object *answer = NULL;
    CLEANUP(err_freep) struct err *e = ask(path, command, &answer);

    strv_fini(&words);
    if (!e && jv_get(answer, "error")) {
        e = err_msg(ERR_INTERNAL, "%s", json_object_get_string(jv_get(answer, "error")));
    }
    if (e) {
        fprintf(stderr, "novashimctl: %s\n", err_message(e));
        return 1;
    }
    print_answer(answer, as_json);
    return 0;
}
