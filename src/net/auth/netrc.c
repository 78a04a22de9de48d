/* SPDX-License-Identifier: Apache-2.0 */
#include "net/auth/netrc.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/mem.h"
#include "base/slice.h"
#include "net/http/url.h"

#define NETRC_MAX_BYTES (256UL * 1024)

static void secret_free(char *text)
{
    if (text)
        explicit_bzero(text, strlen(text));
    free(text);
}

void netrc_login_done(struct netrc_login *login)
{
    secret_free(login->user);
    secret_free(login->password);
    *login = (struct netrc_login){NULL, NULL};
}

/* A word, or text in double quotes (with backslash for what comes next); written over the file's
 * text. false: end of file. */
static bool next_token(char **at, struct slice *ret)
{
    char *p = *at;
    p += strspn(p, " \t\r\n");
    while (*p == '#') { /* a comment runs to the end of its line */
        p += strcspn(p, "\n");
        p += strspn(p, " \t\r\n");
    }
    if (!*p)
        return false;
    if (*p != '"') {
        *ret = (struct slice){p, strcspn(p, " \t\r\n")};
        *at = p + ret->n;
        return true;
    }
    char *to = ++p;
    char *start = p;
    while (*p && *p != '"') {
        p += *p == '\\' && p[1];
        *to++ = *p++;
    }
    *at = *p ? p + 1 : p;
    *ret = (struct slice){start, (size_t)(to - start)};
    return true;
}

struct entry {
    bool is_ours; /* its machine is the one looked for, or "default" */
    struct slice user;
    struct slice password;
};

static bool is_found(const struct entry *entry, const char *user)
{
    return entry->is_ours && entry->user.p && (!user || slice_equal(entry->user, slice_of(user)));
}

static bool find(char *text, struct slice host, const char *user, struct entry *ret)
{
    struct entry entry = {0};
    struct slice word;
    while (next_token(&text, &word)) {
        struct slice value = {NULL, 0};
        bool is_machine = slice_equal(word, SLICE_LIT("machine"));
        bool is_default = slice_equal(word, SLICE_LIT("default"));
        if (is_machine || is_default) {
            if (is_found(&entry, user))
                break;
            bool is_ours = is_default;
            if (is_machine && next_token(&text, &value))
                is_ours = slice_equal_nocase(value, host);
            entry = (struct entry){.is_ours = is_ours};
        } else if (slice_equal(word, SLICE_LIT("login"))) {
            if (next_token(&text, &value))
                entry.user = value;
        } else if (slice_equal(word, SLICE_LIT("password"))) {
            if (next_token(&text, &value))
                entry.password = value;
        } else if (slice_equal(word, SLICE_LIT("macdef"))) {
            char *end = strstr(text, "\n\n"); /* a macro ends at an empty line */
            text = end ? end : text + strlen(text);
        }
    }
    *ret = entry;
    return is_found(&entry, user);
}

int netrc_find(const char *file, const char *url, const char *user, struct netrc_login *ret,
               struct larder_error *e)
{
    struct buf text = BUF_INIT(NETRC_MAX_BYTES);
    struct entry entry = {0};
    int rc = 0;
    if (file_read(AT_FDCWD, file, &text, NULL) == 0 && text.n > 0 &&
        find(text.p, url_host(url), user, &entry)) {
        struct netrc_login login = {slice_dup(entry.user), NULL};
        login.password = entry.password.p ? slice_dup(entry.password) : strdup("");
        if (login.user && login.password)
            *ret = login;
        else
            rc = error_nomem(e);
        if (rc < 0)
            netrc_login_done(&login);
    }
    if (text.p)
        explicit_bzero(text.p, text.cap);
    buf_done(&text);
    return rc;
}
