//! CRI's image service.

use tonic::transport::Channel;

use crate::v1::image_service_client::ImageServiceClient;
use crate::{Error, Result, v1};

/// CRI's image service, typed.
#[derive(Clone, Debug)]
pub struct ImageClient(ImageServiceClient<Channel>);

fn spec(image: &str) -> Option<v1::ImageSpec> {
    Some(v1::ImageSpec { image: image.to_owned(), ..Default::default() })
}

impl ImageClient {
    pub fn new(channel: Channel) -> Self {
        Self(ImageServiceClient::new(channel).max_decoding_message_size(16 << 20))
    }

    /// The image by name, digest or id; `None` when it is not on the node.
    pub async fn status(&self, image: &str) -> Result<Option<v1::Image>> {
        let request = v1::ImageStatusRequest { image: spec(image), verbose: false };
        let response = self.0.clone().image_status(request).await.map_err(Error::rpc("image status", image))?;
        Ok(response.into_inner().image)
    }

    pub async fn list(&self) -> Result<Vec<v1::Image>> {
        let response = self
            .0
            .clone()
            .list_images(v1::ListImagesRequest::default())
            .await
            .map_err(Error::rpc("list images", ""))?;
        Ok(response.into_inner().images)
    }

    /// Pulls from a registry, logged in with `auth`; answers the image's reference.
    pub async fn pull(&self, image: &str, auth: Option<v1::AuthConfig>) -> Result<String> {
        let request = v1::PullImageRequest { image: spec(image), auth, sandbox_config: None };
        let response = self.0.clone().pull_image(request).await.map_err(Error::rpc("pull image", image))?;
        Ok(response.into_inner().image_ref)
    }

    pub async fn remove(&self, image: &str) -> Result<()> {
        let request = v1::RemoveImageRequest { image: spec(image) };
        self.0.clone().remove_image(request).await.map_err(Error::rpc("remove image", image))?;
        Ok(())
    }

    pub async fn fs_info(&self) -> Result<Vec<v1::FilesystemUsage>> {
        let response = self
            .0
            .clone()
            .image_fs_info(v1::ImageFsInfoRequest {})
            .await
            .map_err(Error::rpc("image filesystem info", ""))?;
        Ok(response.into_inner().image_filesystems)
    }
}
