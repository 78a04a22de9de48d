/* SPDX-License-Identifier: Apache-2.0 */
/* Looking for credentials. Files: credentials_file.c; helpers: credentials_helper.c; changes:
 * credentials_edit.c. */
#include "net/auth/credentials.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "net/auth/auth_token.h"
#include "net/auth/credentials_file.h"
#include "net/auth/credentials_helper.h"

void credentials_done(struct credentials *c)
{
    secret_free(c->user);
    secret_free(c->password);
    secret_free(c->identity_token);
    secret_free(c->registry_token);
    free(c->source);
    *c = (struct credentials){0};
}

int credentials_copy(const struct credentials *from, struct credentials *ret,
                     struct larder_error *e)
{
    struct credentials copy = {.is_given = from->is_given, .is_from_helper = from->is_from_helper};
    int rc = text_copy(from->user, &copy.user, e);
    if (rc == 0)
        rc = text_copy(from->password, &copy.password, e);
    if (rc == 0)
        rc = text_copy(from->identity_token, &copy.identity_token, e);
    if (rc == 0)
        rc = text_copy(from->registry_token, &copy.registry_token, e);
    if (rc == 0)
        rc = text_copy(from->source, &copy.source, e);
    if (rc < 0)
        credentials_done(&copy);
    else
        *ret = copy;
    return rc;
}

void credentials_settle(struct credentials *c)
{
    if (c->user && strcmp(c->user, "<token>") == 0 && c->password && !c->identity_token) {
        c->identity_token = TAKE_PTR(c->password);
        secret_free(TAKE_PTR(c->user));
    }
    if (c->password && !*c->password && (c->identity_token || c->registry_token))
        secret_free(TAKE_PTR(c->password));
}

static bool is_known(const struct credentials *c)
{
    return c->password || c->identity_token || c->registry_token;
}

static int find_in_entries(const struct credential_file *file, const struct json *doc,
                           const char *host, const char *repository, struct credentials *ret,
                           struct larder_error *e)
{
    struct credentials found = {0};
    const struct json *entry =
        credential_entry_find(credential_entries(file, doc), host, repository);
    if (!entry)
        return 0;
    int rc = credential_entry_read(entry, &found, e);
    if (rc < 0) {
        error_context(e, "credentials file %s: entry for %s", file->path, host);
        return rc;
    }
    rc = text_copy(file->path, &found.source, e);
    if (rc < 0 || !is_known(&found))
        credentials_done(&found);
    else
        *ret = found;
    return rc;
}

static int find_in_file(const struct credential_options *options,
                        const struct credential_file *file, const char *host,
                        const char *repository, struct credentials *ret, bool *ret_found,
                        struct larder_error *e)
{
    CLEANUP(credential_doc_freep) struct json *doc = NULL;
    int rc = credential_file_read(file, &doc, e);
    if (rc < 0 || !doc)
        return rc;
    const char *helper = file->is_flat ? NULL : credential_helper_of(doc, host);
    if (helper) {
        rc = credential_helper_get(options, helper, host, ret, ret_found, e);
        if (rc < 0)
            error_context(e, "credentials file %s", file->path);
        if (rc < 0 || *ret_found)
            return rc;
    }
    rc = find_in_entries(file, doc, host, repository, ret, e);
    *ret_found = rc == 0 && is_known(ret);
    return rc;
}

int credentials_find(const struct credential_options *options, const char *host,
                     const char *repository, struct credentials *ret, struct larder_error *e)
{
    struct credential_files files = {0};
    struct credentials found = {0};
    bool is_found = false;
    int rc = credential_files_find(options, &files, e);
    for (size_t i = 0; rc == 0 && !is_found && i < files.n; i++)
        rc = find_in_file(options, &files.list[i], host, repository, &found, &is_found, e);
    credential_files_done(&files);
    if (rc == 0)
        *ret = found;
    return rc;
}
