/* SPDX-License-Identifier: Apache-2.0 */
/* Bases in ostree repositories: who has an image, which layers are here, what is recorded. */
#include "base_ostree_fixture.h"

/* ---- images ---- */

static void images_of_commits(void **state __attribute__((unused)))
{
    struct fixture f;
    char other[65], *place = realpath(repo_path, NULL);
    struct image odd = v2;

    open_base(&f, REF, "linux/amd64", NULL);
    assert_string_equal(f.base->place, place);
    assert_string_equal(f.base->identity, place);
    free(place);
    assert_int_equal(f.holders.n, 1);
    const struct base_holder *h = &f.holders.list[0];
    assert_string_equal(h->role, "image");
    assert_string_equal(h->commit, commit);
    assert_true(larder_digest_equal(&h->digest, &v1.digest));
    assert_false(h->is_rewritten);
    assert_string_equal(h->media_type, OCI_TYPE);
    assert_string_equal(h->manifest.p, v1.manifest);
    assert_string_equal(h->config.p, v1.config);
    assert_int_equal(h->view.n_layers, 3);
    assert_string_equal(h->view.version, "1");
    close_base(&f);
    /* A name without an image has no base; none at all is no error. */
    open_base(&f, OTHER_REF, "linux/amd64", NULL);
    assert_int_equal(f.holders.n, 0);
    assert_int_equal(get_code(&f), -LARDER_NOENT);
    assert_int_equal(put(&f, &v2, true), -LARDER_DENIED);
    assert_int_equal(clear(&f), 0);
    close_base(&f);
    /* What ostree-ext makes of a manifest is not what its digest names; and long ago it kept no
     * configuration. */
    odd.manifest[strlen("{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE "\",")] = ' ';
    commit_image(repo_path, IMAGE "next", &odd, "null", other);
    open_base(&f, OTHER_REF, "linux/amd64", NULL);
    assert_int_equal(f.holders.n, 1);
    assert_true(f.holders.list[0].is_rewritten);
    assert_int_equal(f.holders.list[0].config.n, 0);
    assert_null(f.holders.list[0].view.version);
    assert_int_equal(f.holders.list[0].view.n_layers, 4);
    close_base(&f);
}

static void damaged_images(void **state __attribute__((unused)))
{
    static const char *const rows[] = {
        "--add-metadata-string=x=y",
        "--add-metadata-string=ostree.manifest-digest=sha256:00",
        "'--add-metadata=ostree.manifest-digest=uint32 5'",
        "--add-metadata-string=ostree.manifest-digest=$d",
        "--add-metadata-string=ostree.manifest-digest=$d --add-metadata-string=ostree.manifest={}",
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct fixture f = {.options = LARDER_UPDATE_OPTIONS_INIT};
        run("d=%s; ostree --repo=%s commit -b " IMAGE "next --no-bindings %s/tree %s >/dev/null",
            v1.text, repo_path, dir, rows[i]);
        f.options.ostree_repo = repo_path;
        assert_int_equal(update_ask_read(NULL, OTHER_REF, &f.options, &f.ask, &e), 0);
        assert_int_equal(base_ostree_open(&f.ask, &f.base, &e), 0);
        assert_int_equal(f.base->ops->holders(f.base, &f.holders, &e), -LARDER_CORRUPT);
        assert_non_null(strstr(e.msg, repo_path));
        close_base(&f);
    }
}

/* ---- layers ---- */

static void layers(void **state __attribute__((unused)))
{
    static const enum larder_update_presence with[] = {
        LARDER_UPDATE_HERE, LARDER_UPDATE_HERE, LARDER_UPDATE_NEEDED, LARDER_UPDATE_HERE_DIFF_ID,
        LARDER_UPDATE_HERE_DIFF_ID};
    enum larder_update_presence presence[5];
    struct image_view view = {0};
    struct image image;
    struct fixture f;

    /* e and f have the content of c, packed otherwise; d is new. */
    make_image(&image, "amd64", "2", "abdef", "01322", false);
    assert_int_equal(
        image_view_read(slice_of(image.manifest), OCI_TYPE, slice_of(image.config), &view, &e), 0);
    open_base(&f, OTHER_REF, "linux/amd64", NULL);
    assert_int_equal(f.base->ops->layers_here(f.base, &view, presence, &e), 0);
    assert_memory_equal(presence, with, sizeof(with));
    /* An image whose layer is gone has nothing to make it from. */
    run("ostree --repo=%s refs --delete " BLOB "%s", repo_path, digits('c'));
    assert_int_equal(f.base->ops->layers_here(f.base, &view, presence, &e), 0);
    assert_int_equal(presence[1], LARDER_UPDATE_HERE);
    for (int i = 2; i < 5; i++)
        assert_int_equal(presence[i], LARDER_UPDATE_NEEDED);
    close_base(&f);
    image_view_done(&view);
}

/* ---- all of a repository ---- */

static int collect(void *arg, const char *ref, const char *platform)
{
    strcat(strcat(strcat(strcat(arg, ref), "="), platform ? platform : "?"), " ");
    return strstr(ref, "stop") ? 5 : 0;
}

static void each_image(void **state __attribute__((unused)))
{
    const struct larder_update_options options = {.ostree_repo = repo_path};
    struct fixture f;
    char text[500] = "", other[65];

    assert_int_equal(base_ostree_each(NULL, &options, collect, text, &e), 0);
    assert_string_equal(text, "");
    commit_image(repo_path, IMAGE "next", &v2, v2.config, other);
    commit_image(repo_path, IMAGE "a", &v2, "null", other);
    run("ostree --repo=%s refs --create=ostree/container/image/not.escaped %s; "
        "ostree --repo=%s refs --create=" IMAGE "same %s",
        repo_path, other, repo_path, commit);
    write_detached(repo_path, other, CACHED "manifest-digest", "damaged", NULL);
    open_base(&f, REF, "linux/amd64", NULL);
    assert_int_equal(put(&f, &v2, true), 0);
    close_base(&f);
    assert_int_equal(base_ostree_each(NULL, &options, collect, text, &e), 0);
    assert_string_equal(text, "docker://example.org/os:a=? " REF "=linux/amd64 ");
    text[0] = '\0';
    run("ostree --repo=%s refs --create=" IMAGE "b-stop %s", repo_path, other);
    assert_int_equal(base_ostree_each(NULL, &options, collect, text, &e), 5);
    assert_string_equal(text, "docker://example.org/os:a=? docker://example.org/os:b-stop=? ");
}

static int collect_ask(void *arg, const struct update_ask *ask)
{
    return collect(arg, ask->ref, ask->platform_text);
}

/* What a check found that could not write the repository at place. */
static void keep_elsewhere(struct record_dir *state_dir, const char *ref, const char *place)
{
    struct update_record record;
    CLEANUP_FREE char *key = NULL;

    fill_record(&record, &v2, true, OCI_TYPE);
    record.ref = strdup(ref);
    record.platform = strdup("linux/amd64");
    assert_int_equal(record_key(ref, record.platform, place, NULL, &key, &e), 0);
    assert_int_equal(record_dir_put(state_dir, key, &record, &e), 0);
    record_done(&record);
}

static void each_of_both_places(void **state __attribute__((unused)))
{
    char path[80], text[500] = "";
    struct larder_update_options options = LARDER_UPDATE_OPTIONS_INIT;
    struct record_dir *state_dir = NULL;
    struct fixture f;

    snprintf(path, sizeof(path), "%s/state", dir);
    options.ostree_repo = repo_path;
    options.platform = "linux/amd64";
    assert_int_equal(record_dir_open(path, true, &state_dir, &e), 0);
    keep_elsewhere(state_dir, OTHER_REF, repo_path);
    keep_elsewhere(state_dir, REF, repo_path);
    keep_elsewhere(state_dir, "docker://example.org/os:elsewhere", "/another/repo");
    record_dir_close(state_dir);
    open_base(&f, REF, "linux/amd64", NULL);
    assert_int_equal(put(&f, &v2, true), 0);
    close_base(&f);
    assert_int_equal(base_each_ref(NULL, &options, collect_ask, text, &e), 0);
    assert_string_equal(text, REF "=linux/amd64 ");
    options.state_dir = path;
    text[0] = '\0';
    assert_int_equal(base_each_ref(NULL, &options, collect_ask, text, &e), 0);
    assert_string_equal(text, OTHER_REF "=linux/amd64 " REF "=linux/amd64 ");

    /* One that does not tell its platform, and one that does, are of one reference. */
    write_detached(repo_path, commit, CACHED "manifest-digest", "damaged", NULL);
    text[0] = '\0';
    assert_int_equal(base_each_ref(NULL, &options, collect_ask, text, &e), 0);
    assert_string_equal(text, OTHER_REF "=linux/amd64 " REF "=linux/amd64 ");
}

static void set_origin(const char *deployment, const char *image)
{
    run("printf '[origin]\\ncontainer-image-reference=%%s\\n' '%s' >%s/sysroot/ostree/deploy/os/"
        "deploy/%s.origin",
        image, dir, deployment);
}

/* Of a system that is not running: the first deployment is pending. */
static void deployments(void **state __attribute__((unused)))
{
    struct fixture f;
    char sysroot[80], repo[100], other[65], layered[65], deployment[100], *ref = NULL;
    char text[500] = "";

    if (getuid() != 0) {
        print_message("# skipped: only root can deploy\n");
        return;
    }
    snprintf(sysroot, sizeof(sysroot), "%s/sysroot", dir);
    snprintf(repo, sizeof(repo), "%s/ostree/repo", sysroot);
    make_sysroot(sysroot);
    assert_int_equal(base_ostree_follows(sysroot, &ref, &e), -LARDER_NOENT);
    run("t=%s/tree; mkdir -p $t/usr/lib/modules/6.1 $t/usr/etc && "
        "echo kernel >$t/usr/lib/modules/6.1/vmlinuz && echo ID=os >$t/usr/etc/os-release",
        dir);
    commit_image(repo, IMAGE "stable", &v2, v2.config, other);
    commit_image(repo, "old", &v1, v1.config, commit);
    strcpy(layered, output("ostree --repo=%s commit -b layered --no-bindings %s/tree", repo, dir));
    run("ostree admin deploy --sysroot=%s --os=os old >/dev/null", sysroot);
    snprintf(deployment, sizeof(deployment), "%s.0", commit);
    set_origin(deployment, "ostree-unverified-registry:example.org/os:stable");
    assert_int_equal(base_ostree_follows(sysroot, &ref, &e), 0);
    assert_string_equal(ref, REF);
    free(ref);

    /* The ref is the base; the deployment has the image before it. */
    open_base(&f, REF, "linux/amd64", sysroot);
    assert_string_equal(f.base->place, repo);
    assert_int_equal(f.holders.n, 2);
    assert_string_equal(f.holders.list[0].role, "image");
    assert_string_equal(f.holders.list[0].commit, other);
    assert_string_equal(f.holders.list[1].role, "pending");
    assert_string_equal(f.holders.list[1].commit, commit);
    assert_true(larder_digest_equal(&f.holders.list[1].digest, &v1.digest));
    assert_int_equal(put(&f, &v1, true), 0);
    assert_int_equal(f.base->ops->record_get(f.base, &f.holders.list[1], NULL, &e), -LARDER_NOENT);
    close_base(&f);
    assert_string_equal(detached(repo, commit, CACHED "manifest-digest"), "");
    assert_string_not_equal(detached(repo, other, CACHED "manifest-digest"), "");
    open_base(&f, OTHER_REF, "linux/amd64", sysroot);
    assert_int_equal(f.holders.n, 0);
    close_base(&f);

    /* Packages layered on top: a holder of which no image is known, and no base. */
    run("ostree admin deploy --sysroot=%s --os=os layered >/dev/null", sysroot);
    snprintf(deployment, sizeof(deployment), "%s.0", layered);
    set_origin(deployment, "ostree-image-signed:docker://example.org/os:stable");
    open_base(&f, REF, "linux/amd64", sysroot);
    assert_int_equal(f.holders.n, 2);
    assert_string_equal(f.holders.list[1].commit, layered);
    assert_int_equal(f.holders.list[1].digest.alg, LARDER_DIGEST_NONE);
    close_base(&f);
    run("ostree --repo=%s refs --delete " IMAGE "stable", repo);
    open_base(&f, REF, "linux/amd64", sysroot);
    assert_int_equal(f.holders.n, 0);
    close_base(&f);

    /* Without the ref what is deployed is the base, and keeps the record. */
    run("ostree admin deploy --sysroot=%s --os=os old >/dev/null", sysroot);
    snprintf(deployment, sizeof(deployment), "%s.1", commit);
    set_origin(deployment, "ostree-image-signed:docker://example.org/os:stable");
    open_base(&f, REF, "linux/amd64", sysroot);
    assert_int_equal(f.holders.n, 1);
    assert_string_equal(f.holders.list[0].role, "pending");
    assert_int_equal(put(&f, &v2, true), 0);
    assert_int_equal(get_code(&f), 0);
    close_base(&f);
    assert_int_equal(base_ostree_each(NULL, &f.options, collect, text, &e), 0);
    assert_string_equal(text, REF "=linux/amd64 ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(images_of_commits, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(damaged_images, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(layers, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(each_image, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(each_of_both_places, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(deployments, make_repo, remove_repo),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
