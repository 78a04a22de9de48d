/* SPDX-License-Identifier: Apache-2.0 */
#include "image/checksum/signature.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/mem.h"
#include "base/process.h"
#include "base/text.h"

/* A keyring with every key of a distribution is well below this. */
#define KEYRING_BYTES_MAX (16 * 1024 * 1024)
/* Checksum files are at most 1 MiB; so is what gpgv makes of one. */
#define SIGNED_BYTES_MAX (1024 * 1024)
#define STATUS_BYTES_MAX (256 * 1024)
/* gpgv answers in milliseconds; an agent or a slow entropy source cannot hang us. */
#define GPGV_TIMEOUT_MS 30000

/* A private directory for the files gpgv reads, removed with all it has. */
struct scratch {
    char path[64];
    int dirfd;
};

static int remove_one(void *arg, const char *name, unsigned char d_type)
{
    (void)d_type;
    unlinkat(*(int *)arg, name, 0);
    return 0;
}

static void scratch_done(struct scratch *s)
{
    if (s->dirfd < 0)
        return;
    dir_each(s->dirfd, remove_one, &s->dirfd, NULL);
    close(s->dirfd);
    s->dirfd = -1;
    rmdir(s->path);
}

static int scratch_init(struct scratch *s, struct larder_error *e)
{
    const char *base = getenv("TMPDIR");
    int n = snprintf(s->path, sizeof(s->path), "%s/larder-gpgv-XXXXXX",
                     base && base[0] == '/' ? base : "/tmp");
    s->dirfd = -1;
    if (n < 0 || (size_t)n >= sizeof(s->path))
        snprintf(s->path, sizeof(s->path), "/tmp/larder-gpgv-XXXXXX");
    if (!mkdtemp(s->path))
        return error_errno(e, errno, "temporary directory %s", s->path);
    s->dirfd = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->dirfd < 0) {
        int saved = errno;
        rmdir(s->path);
        return error_errno(e, saved, "temporary directory %s", s->path);
    }
    return 0;
}

static int scratch_write(struct scratch *s, const char *name, struct slice data,
                         struct larder_error *e)
{
    CLEANUP_CLOSE int fd = openat(s->dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || fd_write_full(fd, data.p, data.n) < 0)
        return error_errno(e, errno, "temporary file %s/%s", s->path, name);
    return 0;
}

/*
 * gpgv reads binary keyrings only. An armored one (RFC 9580 §6.2: header line, optional headers,
 * blank line, base64, "=" checksum, tail line) is unpacked here; several blocks follow each other.
 */
static int dearmor(struct slice text, struct buf *out, struct larder_error *e)
{
    struct slice line;
    struct buf b64 = BUF_INIT(KEYRING_BYTES_MAX);
    enum { OUTSIDE, HEADERS, BODY } where = OUTSIDE;
    int blocks = 0;
    int r = 0;
    while (r == 0 && slice_next_line(&text, &line)) {
        line = slice_trim(line);
        if (where == OUTSIDE) {
            if (slice_equal(line, SLICE_LIT("-----BEGIN PGP PUBLIC KEY BLOCK-----")))
                where = HEADERS;
        } else if (where == HEADERS) {
            if (line.n == 0)
                where = BODY;
        } else if (slice_starts(line, SLICE_LIT("-----END"))) {
            size_t pads = 0;
            while (pads < 2 && pads < b64.n && b64.p[b64.n - 1 - pads] == '=')
                pads++;
            size_t bytes = b64.n / 4 * 3 - (b64.n >= 4 ? pads : 0);
            char *room = bytes ? buf_reserve(out, bytes) : NULL;
            if (!room || !base64_decode_exact(buf_slice(&b64), (uint8_t *)room, bytes))
                r = error_set(e, LARDER_INVAL, "keyring: damaged armor in key block %d",
                              blocks + 1);
            else
                out->n += bytes;
            blocks++;
            buf_reset(&b64);
            where = OUTSIDE;
        } else if (line.n > 0 && line.p[0] != '=') {
            buf_append_slice(&b64, line);
        }
    }
    if (r == 0 && (blocks == 0 || where != OUTSIDE))
        r = error_set(e, LARDER_INVAL, "keyring: no complete public key block");
    if (r == 0)
        r = buf_failed(out, e);
    buf_done(&b64);
    return r;
}

/* The keyring's path for gpgv: itself when binary, else an unpacked copy in the scratch directory.
 */
static int prepare_keyring(struct scratch *s, const char *keyring, char **ret_path,
                           struct larder_error *e)
{
    struct buf raw = BUF_INIT(KEYRING_BYTES_MAX);
    struct buf binary = BUF_INIT(KEYRING_BYTES_MAX);
    int r = file_read(AT_FDCWD, keyring, &raw, e);
    if (r == -LARDER_NOENT) /* that is no "nothing is signed" */
        r = error_set(e, LARDER_AUTH, "keyring %s: not there", keyring);
    else if (r < 0)
        error_context(e, "keyring");
    if (r < 0)
        goto out;
    if (raw.n == 0) {
        r = error_set(e, LARDER_INVAL, "keyring %s: empty", keyring);
        goto out;
    }
    if (memmem(raw.p, raw.n, "-----BEGIN PGP", 14)) {
        r = dearmor(buf_slice(&raw), &binary, e);
        if (r == 0)
            r = scratch_write(s, "keyring.gpg", buf_slice(&binary), e);
    } else {
        r = scratch_write(s, "keyring.gpg", buf_slice(&raw), e);
    }
    if (r == 0 && asprintf(ret_path, "%s/keyring.gpg", s->path) < 0) {
        *ret_path = NULL;
        r = error_nomem(e);
    }
out:
    buf_done(&raw);
    buf_done(&binary);
    return r;
}

/* Next word after blanks, advancing *rest. */
static struct slice next_word(struct slice *rest)
{
    while (rest->n && *rest->p == ' ')
        rest->p++, rest->n--;
    struct slice word = {rest->p, 0};
    while (rest->n && *rest->p != ' ')
        rest->p++, rest->n--, word.n++;
    return word;
}

struct judgement {
    bool is_current_good; /* GOODSIG since the last NEWSIG */
    bool is_bad;          /* BADSIG: the text was changed */
    char accepted[129];   /* primary fingerprint of the first acceptable signature */
    char other[129];      /* a good one by a key that was not asked for */
    char trouble[64];     /* the last status that explains a refusal */
};

static void copy_word(char *out, size_t out_bytes, struct slice word)
{
    size_t n = word.n < out_bytes - 1 ? word.n : out_bytes - 1;
    memcpy(out, word.p, n);
    out[n] = '\0';
}

/* "VALIDSIG fpr date ts expire version reserved pk-algo hash-algo class primary-fpr" */
static void judge_validsig(struct judgement *j, struct slice rest, const char *wanted)
{
    struct slice signing = next_word(&rest), word = {0}, primary = signing;
    for (int i = 0; i < 9; i++) {
        word = next_word(&rest);
        if (i == 8 && word.n > 0)
            primary = word;
    }
    if (!j->is_current_good)
        return;
    bool matches = !wanted || slice_equal_nocase(signing, slice_of(wanted)) ||
                   slice_equal_nocase(primary, slice_of(wanted));
    char *into = matches ? j->accepted : j->other;
    if (!into[0])
        copy_word(into, sizeof(j->accepted), primary);
}

static void judge_status(struct slice status, const char *wanted, struct judgement *j)
{
    static const char *const troubles[] = {"EXPSIG", "EXPKEYSIG", "REVKEYSIG", "NO_PUBKEY",
                                           "NODATA"};
    struct slice line;
    memset(j, 0, sizeof(*j));
    while (slice_next_line(&status, &line)) {
        if (!slice_starts(line, SLICE_LIT("[GNUPG:] ")))
            continue;
        line.p += 9;
        line.n -= 9;
        struct slice word = next_word(&line);
        if (slice_equal(word, SLICE_LIT("NEWSIG")))
            j->is_current_good = false;
        else if (slice_equal(word, SLICE_LIT("GOODSIG")))
            j->is_current_good = true;
        else if (slice_equal(word, SLICE_LIT("BADSIG")))
            j->is_bad = true;
        else if (slice_equal(word, SLICE_LIT("VALIDSIG")))
            judge_validsig(j, line, wanted);
        for (size_t i = 0; i < ARRAY_LEN(troubles); i++) {
            if (slice_equal(word, slice_of(troubles[i]))) {
                j->is_current_good = false;
                copy_word(j->trouble, sizeof(j->trouble), word);
            }
        }
    }
}

static int judgement_error(const struct judgement *j, const char *keyring, const char *wanted,
                           struct larder_error *e)
{
    if (j->is_bad)
        return error_set(e, LARDER_AUTH, "signature is bad: the signed text was changed");
    if (j->other[0])
        return error_set(e, LARDER_AUTH, "signed by %s, expected %s", j->other,
                         wanted ? wanted : "a key of the keyring");
    if (!strcmp(j->trouble, "NO_PUBKEY"))
        return error_set(e, LARDER_AUTH, "signed by a key that is not in keyring %s", keyring);
    if (!strcmp(j->trouble, "NODATA") || !j->trouble[0])
        return error_set(e, LARDER_AUTH, "no signature found, one by keyring %s was expected",
                         keyring);
    return error_set(e, LARDER_AUTH, "signature not acceptable (%s), keyring %s", j->trouble,
                     keyring);
}

/* Runs gpgv; leaves its status lines in out. */
static int run_gpgv(struct scratch *s, const char *keyring_path, bool is_detached, struct buf *out,
                    struct larder_error *e)
{
    CLEANUP_FREE char *sums = NULL;
    CLEANUP_FREE char *sig = NULL;
    CLEANUP_FREE char *signed_path = NULL;
    if (asprintf(&sums, "%s/sums", s->path) < 0) {
        sums = NULL;
        return error_nomem(e);
    }
    if (asprintf(&sig, "%s/sums.sig", s->path) < 0) {
        sig = NULL;
        return error_nomem(e);
    }
    if (asprintf(&signed_path, "%s/signed", s->path) < 0) {
        signed_path = NULL;
        return error_nomem(e);
    }
    const char *const detached[] = {"gpgv",      "--homedir",  s->path, "--status-fd", "1",
                                    "--keyring", keyring_path, sig,     sums,          NULL};
    const char *const clear[] = {"gpgv",      "--homedir", s->path,      "--status-fd",
                                 "1",         "--keyring", keyring_path, "--output",
                                 signed_path, sums,        NULL};
    struct buf err = BUF_INIT(4096);
    int status = 0;
    int r = process_run(is_detached ? detached : clear, GPGV_TIMEOUT_MS, out, &err, &status, e);
    buf_done(&err);
    if (r == -LARDER_NOENT) {
        error_set(e, LARDER_UNSUPPORTED, "gpgv: not installed, cannot check signatures");
        return error_hint(e, "install the package gpgv"), -LARDER_UNSUPPORTED;
    }
    return r;
}

int signature_check(struct slice text, struct slice signature, const char *keyring,
                    const char *fingerprint, struct buf *ret_signed, char **ret_fingerprint,
                    struct larder_error *e)
{
    CLEANUP(scratch_done) struct scratch s = {.dirfd = -1};
    CLEANUP_FREE char *keyring_path = NULL;
    struct buf status = BUF_INIT(STATUS_BYTES_MAX);
    struct judgement j;
    bool is_detached = signature.n > 0;
    int r = scratch_init(&s, e);
    if (r < 0)
        return r;
    r = prepare_keyring(&s, keyring, &keyring_path, e);
    if (r == 0)
        r = scratch_write(&s, "sums", text, e);
    if (r == 0 && is_detached)
        r = scratch_write(&s, "sums.sig", signature, e);
    if (r == 0)
        r = run_gpgv(&s, keyring_path, is_detached, &status, e);
    if (r < 0)
        goto out;

    judge_status(buf_slice(&status), fingerprint, &j);
    if (j.is_bad || !j.accepted[0]) {
        r = judgement_error(&j, keyring, fingerprint, e);
        goto out;
    }
    struct buf signed_text = BUF_INIT(SIGNED_BYTES_MAX);
    if (is_detached)
        buf_append_slice(&signed_text, text);
    else
        r = file_read(s.dirfd, "signed", &signed_text, e);
    if (r == 0)
        r = buf_failed(&signed_text, e);
    char *accepted = r == 0 ? strdup(j.accepted) : NULL;
    if (r == 0 && !accepted)
        r = error_nomem(e);
    if (r < 0) {
        buf_done(&signed_text);
        goto out;
    }
    buf_done(ret_signed);
    *ret_signed = signed_text;
    *ret_fingerprint = accepted;
out:
    buf_done(&status);
    return r;
}
