/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/publishing.h"

#include "base/text.h"
#include "cli/out.h"

void publishing_json(const char *repository, const struct larder_publish_result *result,
                     bool is_dry_run)
{
    struct doc doc = DOC_INIT;

    doc_object(&doc, NULL);
    doc_text(&doc, "repository", repository);
    doc_text(&doc, "action", larder_publish_action_name(result->action));
    doc_bool(&doc, "dry_run", is_dry_run);
    doc_digest(&doc, "digest", &result->digest);
    doc_array(&doc, "tags");
    for (size_t i = 0; i < result->n_tags; i++) {
        doc_object(&doc, NULL);
        doc_text(&doc, "tag", result->tags[i].tag);
        doc_bool(&doc, "changed", result->tags[i].is_changed);
        doc_text(&doc, "why", result->tags[i].why);
        doc_end(&doc);
    }
    doc_end(&doc);
    doc_array(&doc, "images");
    for (size_t i = 0; i < result->n_images; i++) {
        doc_object(&doc, NULL);
        doc_text(&doc, "platform", result->images[i].platform);
        doc_digest(&doc, "digest", &result->images[i].digest);
        doc_end(&doc);
    }
    doc_end(&doc);
    doc_number(&doc, "blobs_copied", result->blobs_copied);
    doc_number(&doc, "blobs_existed", result->blobs_existed);
    doc_number(&doc, "blobs_mounted", result->blobs_mounted);
    doc_number(&doc, "bytes_copied", result->bytes_copied);
    doc_number(&doc, "requests", result->requests);
    doc_end(&doc);
}

void publishing_say(struct cli *cli, const char *repository,
                    const struct larder_publish_result *result, bool is_dry_run)
{
    char size[32];

    for (size_t i = 0; i < result->n_tags; i++) {
        const struct larder_publish_tag *tag = &result->tags[i];
        const char *what = !tag->is_changed ? "unchanged" : is_dry_run ? "would be set" : "set";

        cli_say(cli, false, "%s:%s: %s (%s)", repository, tag->tag, what, tag->why ? tag->why : "");
    }
    if (result->action == LARDER_PUBLISH_PUSH && !is_dry_run)
        cli_say(cli, false, "%s: sent %llu blob%s (%s), %llu existed, %llu mounted", repository,
                (unsigned long long)result->blobs_copied, result->blobs_copied == 1 ? "" : "s",
                size_format(result->bytes_copied, size), (unsigned long long)result->blobs_existed,
                (unsigned long long)result->blobs_mounted);
}
