// SPDX-License-Identifier: Apache-2.0
//! What ostree-ext makes of a repository: the reader and writer that bootc and rpm-ostree embed.
//!
//!     ostree-ext-cli query REPO IMAGE      image and cached update, as JSON ("error": why not)
//!     ostree-ext-cli query REPO COMMIT     the same by commit, as a status of deployments asks
//!     ostree-ext-cli diff REPO IMAGE       image and cached update, as bootc prints them
//!     ostree-ext-cli ...                   the crate's own command line
//!
//! IMAGE is "TRANSPORT:NAME", as in `container image metadata`.

use anyhow::{anyhow, Result};
use ostree_ext::container::store::{query_image, query_image_commit, LayeredImageState};
use ostree_ext::container::{ImageReference, ManifestDiff};
use ostree_ext::ostree::Repo;
use serde_json::{json, Value};

fn state(repo: &str, of: &str) -> Result<Option<Box<LayeredImageState>>> {
    let repo = Repo::new_for_path(repo);
    repo.open(ostree_ext::gio::Cancellable::NONE)?;
    if of.len() == 64 && of.bytes().all(|b| b.is_ascii_hexdigit()) {
        return query_image_commit(&repo, of).map(Some);
    }
    query_image(&repo, &ImageReference::try_from(of)?)
}

fn told(state: &LayeredImageState) -> Value {
    json!({
        "commit": state.merge_commit,
        "digest": state.manifest_digest.to_string(),
        "version": state.version(),
        "layers": state.manifest.layers().len(),
        "cached": state.cached_update.as_ref().map(|update| json!({
            "digest": update.manifest_digest.to_string(),
            "version": update.version(),
            "layers": update.manifest.layers().len(),
            "manifest": update.manifest,
            "config": update.config,
        })),
    })
}

fn diff(repo: &str, of: &str) -> Result<()> {
    let state = state(repo, of)?.ok_or_else(|| anyhow!("no image"))?;
    let update = state
        .cached_update
        .as_ref()
        .ok_or_else(|| anyhow!("no cached update"))?;
    ManifestDiff::new(&state.manifest, &update.manifest).print();
    Ok(())
}

async fn run() -> Result<()> {
    let argv: Vec<String> = std::env::args().collect();
    match argv.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        ["query", repo, of] => {
            let answer = match state(repo, of) {
                Ok(state) => json!({ "image": state.map(|s| told(&s)) }),
                Err(e) => json!({ "error": format!("{e:#}") }),
            };
            println!("{answer}");
            Ok(())
        }
        ["diff", repo, of] => diff(repo, of),
        _ => ostree_ext::cli::run_from_iter(argv).await,
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    if let Err(e) = run().await {
        eprintln!("error: {e:#}");
        std::process::exit(1);
    }
}
