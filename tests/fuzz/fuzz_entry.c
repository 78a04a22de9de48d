/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store's small documents: refs, leases, memos, quarantine notes. The first byte chooses the
 * reader; what one accepts must be whole.
 */
#include <string.h>

#include "fuzz.h"
#include "store/dir/lease.h"
#include "store/dir/memo.h"
#include "store/dir/quarantine.h"
#include "store/dir/ref.h"
#include "store/users.h"

/* No room above the store is linked. */
const struct users_probe *const store_default_users = NULL;

static int is_identity(void *arg, const struct larder_digest *digest)
{
    (void)arg;
    FUZZ_CHECK(larder_digest_is_identity(digest->alg));
    return 0;
}

static int fuzz_ref(struct slice text, struct larder_error *e)
{
    struct json *doc = NULL;
    int r = ref_parse(text, NULL, &doc, e);
    FUZZ_CHECK((r == 0) == (doc != NULL));
    if (r == 0) {
        FUZZ_CHECK(json_get_string(doc, "name"));
        FUZZ_CHECK(ref_each_digest(doc, is_identity, NULL, e) == 0);
    }
    json_free(doc);
    return r;
}

static int fuzz_lease(struct slice text, struct larder_error *e)
{
    struct lease lease = {0};
    int r = lease_parse(text, &lease, e);
    if (r < 0) {
        FUZZ_CHECK(!lease.purpose && !lease.host && !lease.path);
        return r;
    }
    FUZZ_CHECK(strlen(lease.id) == 32 && lease.purpose && lease.host);
    FUZZ_CHECK((lease.kind == LEASE_FILE) == (lease.path != NULL));
    FUZZ_CHECK(lease.kind != LEASE_PROCESS || lease.process.pid > 0);
    lease_done(&lease);
    return 0;
}

static int fuzz_memo(struct slice text, struct larder_error *e)
{
    struct larder_digest digest = {0};
    struct memo memo = {0};
    char *path = NULL;
    int r = memo_parse(text, &memo, &digest, &path, e);
    FUZZ_CHECK(r == 0 || !path);
    if (r == 0)
        FUZZ_CHECK(memchr(memo.boot_id, 0, sizeof memo.boot_id) &&
                   memchr(memo.invalid_reason, 0, sizeof memo.invalid_reason));
    free(path);
    return r;
}

static int fuzz_note(struct slice text, struct larder_error *e)
{
    struct quarantine_item item = {0};
    int r = quarantine_note_parse(text, &item, e);
    FUZZ_CHECK((r == 0) == (item.reason != NULL));
    free(item.reason);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int (*const readers[])(struct slice text, struct larder_error * e) = {
        fuzz_ref, fuzz_lease, fuzz_memo, fuzz_note};
    struct larder_error e = LARDER_ERROR_INIT;

    if (size == 0)
        return 0;
    struct slice text = {(const char *)data + 1, size - 1};
    int r = readers[data[0] % 4](text, &e);
    FUZZ_CHECK(r <= 0);
    FUZZ_CHECK((r < 0) == (e.code != LARDER_OK));
    FUZZ_CHECK(r == 0 || (int)e.code == -r);
    return 0;
}
