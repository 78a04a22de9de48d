/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What the update commands share: the options that say where the base of a reference is, and what
 * is made of them.
 */
#include <larder/update.h>

#include "cli/cli.h"
#include "cli/opt.h"
#include "cli/remote.h"

/* The sysroot of the deployment that runs. */
#define UPDATE_BOOTED_ROOT "/"

struct update_args {
    const char *ostree_repo;
    const char *sysroot;
    bool no_ostree;
    const char *state_dir;
    const char *platform;
    const char *name;
};

#define UPDATE_PLACE_OPTS(a)                                                                       \
    OPT_DIR(0, "ostree-repo", &(a)->ostree_repo, "DIR",                                            \
            "the bases are the images of this ostree repository, and the records are kept there"), \
        OPT_DIR(0, "sysroot", &(a)->sysroot, "DIR",                                                \
                "the bases are the images and deployments of this ostree sysroot; default: / "     \
                "where the machine was booted from one, for what that deployment follows"),        \
        OPT_FLAG(0, "no-ostree", &(a)->no_ostree,                                                  \
                 "the bases are the images of larder's store, also on an ostree machine"),         \
        OPT_DIR(0, "state-dir", &(a)->state_dir, "DIR",                                            \
                "where a record is kept when its place cannot be written; default: "               \
                "update.state_dir of the configuration")
#define UPDATE_PLATFORM_OPT(a)                           \
    OPT_STRING(0, "platform", &(a)->platform, "OS/ARCH", \
               "which member of an index is meant (linux/arm64); default: this machine's")
#define UPDATE_OPTS(a)                                                                        \
    OPT_STRING(0, "name", &(a)->name, "NAME",                                                 \
               "the base is this name of the store; default: that of REF without transport"), \
        UPDATE_PLATFORM_OPT(a), UPDATE_PLACE_OPTS(a)

/* How the store is needed. With ostree one that is not there is done without, but to fill it. */
enum update_store {
    UPDATE_STORE_READ,
    UPDATE_STORE_CLEAR, /* a record is removed; none where there is no store */
    UPDATE_STORE_KEEP,  /* one is written; read-only where it can't be */
    UPDATE_STORE_HOLD,  /* blobs are held; read-only where they can't be */
    UPDATE_STORE_FILL,  /* an image is put there; without ostree what is recorded is there, too */
};

/* The parameters of a call of the library; borrows from the arguments and the configuration, and
 * must not move. */
struct update_call {
    struct larder_store *store; /* NULL: none */
    const char *ref;            /* NULL: what the sysroot follows */
    struct larder_update_options options;
    struct remote remote;
};
#define UPDATE_CALL_INIT                                    \
    {                                                       \
        NULL, NULL, LARDER_UPDATE_OPTIONS_INIT, REMOTE_INIT \
    }

/*
 * Decides where the base of ref (NULL: none was given) is, and opens the store. remote NULL: nobody
 * will be asked. command ("update show") is named in a usage error: INVAL. To be given back with
 * update_call_done() in any case.
 */
int update_call_fill(struct cli *cli, const char *command, const char *ref,
                     const struct update_args *args, const struct remote_args *remote,
                     enum update_store need, struct update_call *ret, struct larder_error *e);
void update_call_done(struct update_call *call); /* also for CLEANUP(update_call_done) */
/* The parts of it. place: options->ostree_repo or sysroot, as the options alone say; INVAL. */
int update_place_fill(struct cli *cli, const char *command, const struct update_args *args,
                      const struct remote_args *remote, struct update_call *ret,
                      struct larder_error *e);
int update_store_open(struct cli *cli, enum update_store need, bool is_ostree,
                      struct larder_store **ret, struct larder_error *e);

/* Whether this machine runs an ostree deployment, and the options leave it to that. */
bool update_is_booted(const struct update_args *args);
/* The image that the booted deployment follows, malloc'd; *ret NULL: none of a container image, or
 * larder can't tell (built or installed without ostree). */
int update_booted_ref(char **ret, struct larder_error *e);
/* Whether ref, as somebody typed it, is that reference. */
bool update_is_ref(const char *ref, const char *complete);

static inline bool update_is_ostree(const struct larder_update_options *options)
{
    return options->ostree_repo || options->sysroot;
}
