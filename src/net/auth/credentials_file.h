/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The files of credentials.h, and their keys. Inside src/net.
 */
#include "base/slice.h"
#include "json/json.h"
#include "net/auth/credentials.h"

/* A configuration with helpers and some hundred hosts is a few ten KiB. */
#define CREDENTIAL_FILE_MAX_BYTES (1u << 20)

struct credential_file {
    char *path;
    bool is_docker; /* docker's, where keys are what docker writes */
    bool is_flat;   /* ~/.dockercfg: its members are the hosts */
};
#define CREDENTIAL_FILES_MAX 4

/* Those to look into, in order. */
struct credential_files {
    struct credential_file list[CREDENTIAL_FILES_MAX];
    size_t n;
    bool is_given; /* the one that the user named */
};
int credential_files_find(const struct credential_options *options, struct credential_files *ret,
                          struct larder_error *e);
void credential_files_done(struct credential_files *files);

/* *ret NULL: there is none. Free with credential_doc_free. */
int credential_file_read(const struct credential_file *file, struct json **ret,
                         struct larder_error *e);
/* Wipes what is secret in it. */
void credential_doc_free(struct json *doc);
DEFINE_CLEANUP(struct json *, credential_doc_free)
void credential_entry_wipe(const struct json *entry);

/* "auths" (the document itself of a flat file); NULL without. */
const struct json *credential_entries(const struct credential_file *file, const struct json *doc);
/* Name of the helper for a host ("pass"), borrowed; NULL: none. */
const char *credential_helper_of(const struct json *doc, const char *host);

/* docker.io for all its names, else the host itself. Borrowed. */
const char *credential_host(const char *host);
/* Whether a key of "auths" or "credHelpers" means that host: "https://host/v1/", "host". */
bool credential_key_is_host(const char *key, const char *host);
/* Entry for HOST/NS/REPO, the longest key first; NULL: none that says anything. Borrowed. */
const struct json *credential_entry_find(const struct json *entries, const char *host,
                                         const char *repository);
/* What an entry says into ret (source not set). CORRUPT without a text that quotes it. */
int credential_entry_read(const struct json *entry, struct credentials *ret,
                          struct larder_error *e);
/* "<token>" as the user means that the password is an identity token; an empty password next to a
 * token is none. */
void credentials_settle(struct credentials *c);
