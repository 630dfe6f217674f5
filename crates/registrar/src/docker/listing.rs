//! Asks Docker which containers run, and how.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bollard::Docker;
use bollard::models::ContainerSummary;
use bollard::query_parameters::{ListContainersOptions, ListNetworksOptions};
use catalog::ListedContainer;
use model::service_labels::need_image_labels;

use super::known::About;
use super::reach::Drivers;
use super::{DockerError, answered, convert};

/// The most images whose labels are remembered.
const IMAGES_MAX: usize = 256;

type Labels = HashMap<String, String>;

/// Lists containers. Many questions may be under way at once.
pub(super) struct Lister<'a> {
    docker: &'a Docker,
    /// The labels of images by the image's id, which is a hash of them: they never change.
    images: Mutex<HashMap<String, Labels>>,
}

impl<'a> Lister<'a> {
    pub(super) fn new(docker: &'a Docker) -> Self {
        Self { docker, images: Mutex::default() }
    }

    /// The running containers of those that are asked about.
    pub(super) async fn list(&self, about: &About) -> Result<Vec<ListedContainer>, DockerError> {
        let filters = match about {
            About::All => None,
            About::Only(ids) => Some(HashMap::from([("id".to_owned(), ids.iter().map(ToString::to_string).collect())])),
        };
        let options = ListContainersOptions { filters, ..Default::default() };
        // A Docker that does not tell of its networks is none the worse for the rest.
        let networks = answered(self.docker.list_networks(None::<ListNetworksOptions>));
        let (summaries, networks) = futures_util::join!(answered(self.docker.list_containers(Some(options))), networks);
        let drivers = Drivers::of(networks.unwrap_or_default());
        let mut listed = Vec::new();
        for summary in &summaries? {
            let Some(mut container) = convert::listed_container(summary, &drivers) else { continue };
            if need_image_labels(&container.container.facts.labels) {
                container.image_labels = self.image_labels(summary).await;
            }
            listed.push(container);
        }
        Ok(listed)
    }

    /// The labels that came with the image: what makes the host act is not taken from them.
    async fn image_labels(&self, summary: &ContainerSummary) -> Option<Labels> {
        let id = summary.image_id.as_deref()?;
        if let Some(known) = self.images.lock().unwrap_or_else(PoisonError::into_inner).get(id) {
            return Some(known.clone());
        }
        let image = answered(self.docker.inspect_image(id)).await.ok()?;
        let labels = image.config.and_then(|config| config.labels).unwrap_or_default();
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if images.len() >= IMAGES_MAX {
            images.clear();
        }
        images.insert(id.to_owned(), labels.clone());
        Some(labels)
    }
}
