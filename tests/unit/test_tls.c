/* SPDX-License-Identifier: Apache-2.0 */
/* https with a private authority: who is trusted, and what is said when nobody is. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/http/http.h"

static char dir[] = "/tmp/larder-tls-XXXXXX";

/* "CERT KEY [CLIENT-CA]": answers every request with "hello"; prints its port. */
static const char server_py[] = "import ctypes, http.server, ssl, sys\n"
                                "ctypes.CDLL(None).prctl(1, 15)\n"
                                "class H(http.server.BaseHTTPRequestHandler):\n"
                                "    def do_GET(self):\n"
                                "        self.send_response(200)\n"
                                "        self.send_header('Content-Length', '5')\n"
                                "        self.end_headers()\n"
                                "        self.wfile.write(b'hello')\n"
                                "    def log_message(self, *args):\n"
                                "        pass\n"
                                "class S(http.server.HTTPServer):\n"
                                "    def handle_error(self, request, address):\n"
                                "        pass\n"
                                "s = S(('127.0.0.1', 0), H)\n"
                                "c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n"
                                "c.load_cert_chain(sys.argv[1], sys.argv[2])\n"
                                "if len(sys.argv) > 3:\n"
                                "    c.verify_mode = ssl.CERT_REQUIRED\n"
                                "    c.load_verify_locations(sys.argv[3])\n"
                                "s.socket = c.wrap_socket(s.socket, server_side=True)\n"
                                "print(s.server_port, flush=True)\n"
                                "s.serve_forever()\n";

/* An authority, and certificates: of this host, of another one, of the past, and a client's. */
static const char make_certs[] =
    "set -e; cd '%s'; mkdir certs.d\n"
    "new() { openssl req -newkey rsa:2048 -nodes -subj \"/CN=$1\" -keyout $1.key -out $1.csr; }\n"
    "{ openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj '/CN=test authority' \\\n"
    "    -keyout ca.key -out certs.d/ca.crt\n"
    "sign() { printf 'subjectAltName=%%s\\n' \"$2\" >ext; openssl x509 -req -in $1.csr \\\n"
    "    -CA certs.d/ca.crt -CAkey ca.key -CAcreateserial -extfile ext -out $1.pem $3; }\n"
    "new good; sign good IP:127.0.0.1 '-days 2'\n"
    "new other; sign other DNS:other.example '-days 2'\n"
    "new client; sign client DNS:client '-days 2'\n"
    "touch index.txt; echo 01 >serial\n"
    "printf '[ca]\\ndefault_ca=d\\n[d]\\ndatabase=index.txt\\nserial=serial\\nnew_certs_dir=.\\n"
    "default_md=sha256\\npolicy=p\\nx509_extensions=x\\n[p]\\ncommonName=supplied\\n"
    "[x]\\nsubjectAltName=IP:127.0.0.1\\n' >ca.cnf\n"
    "new old; openssl ca -batch -config ca.cnf -cert certs.d/ca.crt -keyfile ca.key -in old.csr "
    "\\\n"
    "    -out old.pem -startdate 20200101000000Z -enddate 20200201000000Z; } >log 2>&1";

struct tls_server {
    pid_t pid;
    char url[64];
};

static const char *in_dir(const char *name, char out[128])
{
    snprintf(out, 128, "%s/%s", dir, name);
    return out;
}

static void start(struct tls_server *s, const char *name, bool wants_client)
{
    int fds[2];
    char cert[128];
    char key[128];
    char ca[128];
    snprintf(cert, sizeof(cert), "%s/%s.pem", dir, name);
    snprintf(key, sizeof(key), "%s/%s.key", dir, name);
    in_dir("certs.d/ca.crt", ca);
    assert_int_equal(pipe(fds), 0);
    s->pid = fork();
    if (s->pid == 0) {
        dup2(fds[1], 1);
        execlp("python3", "python3", "-c", server_py, cert, key, wants_client ? ca : (char *)NULL,
               (char *)NULL);
        _exit(127);
    }
    close(fds[1]);
    FILE *f = fdopen(fds[0], "r");
    char line[32] = "";
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof(line), f));
    fclose(f);
    snprintf(s->url, sizeof(s->url), "https://127.0.0.1:%d/x", atoi(line));
}

static void stop(const struct tls_server *s)
{
    kill(s->pid, SIGTERM);
    waitpid(s->pid, NULL, 0);
}

static int get(struct http_options options, const char *url, struct larder_error *e)
{
    struct http_client *client = NULL;
    struct http_response response = {0};
    struct http_request request = {.url = url};
    *e = (struct larder_error)LARDER_ERROR_INIT;
    options.no_netrc = true;
    int rc = http_client_new(&options, &client, e);
    if (rc == 0)
        rc = http_perform(client, &request, &response, e);
    if (rc == 0)
        assert_int_equal(response.status, 200);
    http_response_done(&response);
    http_client_free(client);
    return rc;
}

static void test_trust(void **state)
{
    (void)state;
    static const struct {
        const char *server;
        bool has_ca_dir, is_insecure, is_ca_file;
        enum larder_code code;
        const char *message, *hint;
    } rows[] = {
        {"good", true, false, false, LARDER_OK, "", ""},
        {"good", false, false, true, LARDER_OK, "", ""},
        {"good", true, false, true, LARDER_OK, "", ""},
        {"good", false, true, false, LARDER_OK, "", ""},
        {"good", false, false, false, LARDER_AUTH, "issuer", "authority"},
        {"other", true, false, false, LARDER_AUTH, "127.0.0.1", "another host's"},
        {"other", false, true, false, LARDER_OK, "", ""},
        {"old", true, false, false, LARDER_AUTH, "expired", "clock"},
        {"old", false, true, false, LARDER_OK, "", ""},
    };
    char ca_dir[128];
    char ca_file[128];
    in_dir("certs.d", ca_dir);
    in_dir("certs.d/ca.crt", ca_file);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct tls_server s;
        struct larder_error e;
        start(&s, rows[i].server, false);
        struct http_options options = {.ca_dir = rows[i].has_ca_dir ? ca_dir : NULL,
                                       .ca_file = rows[i].is_ca_file ? ca_file : NULL,
                                       .insecure_tls = rows[i].is_insecure};
        int rc = get(options, s.url, &e);
        if (rc != -(int)rows[i].code || !strstr(e.msg, rows[i].message) ||
            !strstr(e.hint, rows[i].hint))
            fail_msg("row %zu: %d %s (%s)", i, rc, e.msg, e.hint);
        stop(&s);
    }
}

static void test_client_certificates(void **state)
{
    (void)state;
    struct tls_server s;
    struct larder_error e;
    char ca_dir[128];
    char cert[128];
    char key[128];
    char other_key[128];
    struct http_options options = {.ca_dir = in_dir("certs.d", ca_dir)};
    start(&s, "good", true);
    /* Whether the alert or the end of the connection is seen first is luck. */
    int rc = get(options, s.url, &e);
    assert_true(rc == -LARDER_AUTH || http_is_transient(&e));
    assert_non_null(strstr(e.hint, "client certificate"));
    options.client_cert = in_dir("client.pem", cert);
    options.client_key = in_dir("client.key", key);
    assert_int_equal(get(options, s.url, &e), 0);
    options.client_key = in_dir("other.key", other_key);
    assert_int_equal(get(options, s.url, &e), -LARDER_AUTH);
    assert_non_null(strstr(e.msg, "client.pem"));
    options.client_key = "/nonexistent/key";
    assert_int_equal(get(options, s.url, &e), -LARDER_AUTH);
    stop(&s);
}

static void test_not_tls(void **state)
{
    (void)state;
    struct tls_server s;
    struct larder_error e;
    char url[64];
    start(&s, "good", false);
    snprintf(url, sizeof(url), "http%s", s.url + 5);
    assert_true(get((struct http_options){0}, url, &e) < 0); /* neither hangs nor succeeds */
    stop(&s);
    char missing[128];
    assert_int_equal(
        get((struct http_options){.ca_dir = in_dir("none", missing)}, "http://127.0.0.1:1/", &e),
        -LARDER_UNREACHABLE);
    assert_int_equal(
        get((struct http_options){.ca_dir = in_dir("ca.key", missing)}, "http://127.0.0.1:1/", &e),
        -LARDER_IO);
}

static int setup(void **state)
{
    (void)state;
    char command[4096];
    if (!mkdtemp(dir))
        return -1;
    snprintf(command, sizeof(command), make_certs, dir);
    return system(command);
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof(command), "rm -rf -- '%s'", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trust),
        cmocka_unit_test(test_client_certificates),
        cmocka_unit_test(test_not_tls),
    };
    static const char *const names[] = {"http_proxy", "https_proxy", "HTTPS_PROXY",
                                        "all_proxy",  "ALL_PROXY",   "SSL_CERT_FILE"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        unsetenv(names[i]);
    if (system("python3 -c 'import ssl' 2>/dev/null && openssl version >/dev/null 2>&1") != 0) {
        puts("1..0 # SKIP python3 or openssl not found");
        return 0;
    }
    return cmocka_run_group_tests_name("tls", tests, setup, teardown);
}
