/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What the commands about registries share: the options that say how one is reached and who we are
 * there, with the names skopeo gives them, and what is made of them.
 */
#include <larder/net.h>
#include <larder/registry.h>

#include "cli/cli.h"
#include "cli/opt.h"

struct remote_args {
    const char *authfile;
    const char *creds;
    const char *registry_token;
    const char *cert_dir;
    bool no_creds;
    int tls_verify;
    int retry_times; /* not of one side */
};

/* Each row is named prefix + name; of says which side, as in "of the source". */
#define REMOTE_AUTHFILE_OPT(prefix, a, of)                                 \
    OPT_PATH(                                                              \
        0, prefix "authfile", &(a)->authfile, "FILE",                      \
        "file with the credentials" of ", docker's or podman's; default: " \
        "registry.authfile of the configuration, $REGISTRY_AUTH_FILE, then their usual files")
#define REMOTE_TLS_OPTS(prefix, a, of)                       \
    OPT_BOOL(0, prefix "tls-verify", &(a)->tls_verify,       \
             "whether TLS and a certificate are required" of \
             "; default: as registries.conf says, "          \
             "yes, but not of loopback"),                    \
        OPT_DIR(0, prefix "cert-dir", &(a)->cert_dir, "DIR", \
                "directory with *.crt, *.cert and *.key for the registry" of)
#define REMOTE_OPTS(prefix, a, of)                                                     \
    REMOTE_AUTHFILE_OPT(prefix, a, of),                                                \
        OPT_STRING(0, prefix "creds", &(a)->creds, "USER:PASSWORD",                    \
                   "credentials" of "; others may see them in the list of processes"), \
        OPT_STRING(0, prefix "registry-token", &(a)->registry_token, "TOKEN",          \
                   "bearer token to be sent" of),                                      \
        OPT_FLAG(0, prefix "no-creds", &(a)->no_creds, "use no credentials" of),       \
        REMOTE_TLS_OPTS(prefix, a, of)
#define REMOTE_RETRY_OPT(a)                                                                   \
    OPT_COUNT(0, "retry-times", &(a)->retry_times, "N",                                       \
              "how often a request is repeated that failed in a way that may pass; default: " \
              "net.retries of the configuration")

/* The options for the library; borrows from the arguments and the configuration. */
struct remote {
    struct larder_registry_options options;
    struct larder_net_options net;
    char *user; /* of creds, with the password in the same memory */
    size_t user_bytes;
};
#define REMOTE_INIT                                                    \
    {                                                                  \
        LARDER_REGISTRY_OPTIONS_INIT, LARDER_NET_OPTIONS_INIT, NULL, 0 \
    }

/*
 * Fills *ret, which must not move afterwards. What side leaves open is taken from both (options
 * without a prefix), then from the configuration; either may be NULL. command is named in a usage
 * error: INVAL. Give it back with remote_done() in any case.
 */
int remote_fill(struct cli *cli, const char *command, const struct remote_args *side,
                const struct remote_args *both, struct remote *ret, struct larder_error *e);
void remote_done(struct remote *remote); /* wipes; also for CLEANUP(remote_done) */

/* --jobs, else registry.jobs of the configuration (which must have been read). */
unsigned remote_jobs(const struct cli *cli, int given);
#define REMOTE_JOBS_OPT(field)                                                          \
    OPT_COUNT('j', "jobs", (field), "N",                                                \
              "how many blobs are on their way at once; default: registry.jobs of the " \
              "configuration")

/*
 * Opens the store when one of the locations begins with "store:" (made when it is missing, if
 * may_create), else sets *ret to NULL: registries alone need none.
 */
int remote_store(struct cli *cli, const char *const *locations, size_t count, bool may_create,
                 struct larder_store **ret, struct larder_error *e);

/*
 * Whether the location names a transport. INVAL otherwise, with the advice that fits: docker:// for
 * what looks like a registry, oci: for what looks like a path.
 */
int remote_check_location(const char *location, struct larder_error *e);
/* "docker://HOST/NAME" where no transport was written, malloc'd: for words that can only be a
 * repository. */
int remote_repository(const char *word, char **ret, struct larder_error *e);
bool remote_is_registry(const char *location);

/* Writes text, without a newline, into a file (--digestfile). */
int remote_write_file(const char *path, const char *text, struct larder_error *e);
