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
    const char *username, *password; /* creds in two words */
    const char *registry_token;
    const char *cert_dir;
    bool no_creds;
    int tls_verify;
    int retry_times; /* not of one side */
};

#define REMOTE_AUTHFILE_OPT(a)                                                                 \
    OPT_PATH(0, "authfile", &(a)->authfile, "FILE",                                            \
             "file with credentials, docker's or podman's; default: registry.authfile of the " \
             "configuration, $REGISTRY_AUTH_FILE, then their usual places")
#define REMOTE_TLS_OPTS(a)                                                                         \
    OPT_BOOL(0, "tls-verify", &(a)->tls_verify,                                                    \
             "whether TLS with a good certificate is required; default: as registries.conf says, " \
             "and yes, but for loopback addresses"),                                               \
        OPT_DIR(0, "cert-dir", &(a)->cert_dir, "DIR",                                              \
                "directory with *.crt, *.cert and *.key for the registry; default: that of the "   \
                "host in certs.d of containers and docker")
#define REMOTE_OPTS(a)                                                                            \
    REMOTE_AUTHFILE_OPT(a),                                                                       \
        OPT_STRING(0, "creds", &(a)->creds, "USER:PASSWORD",                                      \
                   "use these; others may see them in the list of processes"),                    \
        OPT_STRING(0, "username", &(a)->username, "USER", "the user of --creds alone"),           \
        OPT_STRING(0, "password", &(a)->password, "PASSWORD", "the password of --creds alone"),   \
        OPT_STRING(0, "registry-token", &(a)->registry_token, "TOKEN", "send this bearer token"), \
        OPT_FLAG(0, "no-creds", &(a)->no_creds, "use no credentials"), REMOTE_TLS_OPTS(a)
/* The same for one side of a copy. */
#define REMOTE_SIDE_OPTS(prefix, a, side)                                                        \
    OPT_PATH(0, prefix "authfile", &(a)->authfile, "FILE", "as --authfile, of the " side),       \
        OPT_STRING(0, prefix "creds", &(a)->creds, "USER:PASSWORD", "as --creds, of the " side), \
        OPT_STRING(0, prefix "username", &(a)->username, "USER", "as --username, of the " side), \
        OPT_STRING(0, prefix "password", &(a)->password, "PASSWORD",                             \
                   "as --password, of the " side),                                               \
        OPT_STRING(0, prefix "registry-token", &(a)->registry_token, "TOKEN",                    \
                   "as --registry-token, of the " side),                                         \
        OPT_FLAG(0, prefix "no-creds", &(a)->no_creds, "as --no-creds, of the " side),           \
        OPT_BOOL(0, prefix "tls-verify", &(a)->tls_verify, "as --tls-verify, of the " side),     \
        OPT_DIR(0, prefix "cert-dir", &(a)->cert_dir, "DIR", "as --cert-dir, of the " side)
#define REMOTE_RETRY_OPT(a)                                                                   \
    OPT_COUNT(0, "retry-times", &(a)->retry_times, "N",                                       \
              "how often a request is repeated that failed in a way that may pass; default: " \
              "net.retries of the configuration")
/* Of publish and copy; the field is an int of the command's own. */
#define REMOTE_JOBS_OPT(field)                                                          \
    OPT_COUNT('j', "jobs", (field), "N",                                                \
              "how many blobs are on their way at once; default: registry.jobs of the " \
              "configuration")

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
/* What this machine runs, as "linux/x86_64", for --platform's default. */
const char *remote_host_platform(char out[96]);

/* Writes text, without a newline, into a file (--digestfile). */
int remote_write_file(const char *path, const char *text, struct larder_error *e);
