//! Models from a Hugging Face hub.
//!
//! Nothing is ever downloaded to answer a query. [`fetch`] is for setup scripts: its caller knows the files and their
//! hashes. [`download`] is `rag_download_model`: the hub says what a repository has, so nothing that it says is believed
//! before it is checked, and what is downloaded is bound to one commit and to the hashes of its files.
//!
//! From the bottom up:
//! - [`error`]: what can go wrong between here and a hub;
//! - [`names`]: repositories, revisions and files whose names may become paths;
//! - [`token`]: the token, from a file;
//! - [`listing`]: what a repository has at one commit;
//! - [`selection`]: which of these files a model needs;
//! - [`client`]: requests, with time-outs, redirects and cancelling;
//! - [`store`]: the server's folder of what has been downloaded, whole or in part;
//! - [`stored`]: what is in the server's folder, and removing it;
//! - [`blob`]: one file, resumed and verified;
//! - [`download`]: the way of a model through all of it.

mod blob;
mod client;
pub mod download;
pub mod error;
mod fetch;
mod listing;
mod names;
mod selection;
mod store;
pub mod stored;
mod token;

#[cfg(test)]
mod download_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod small_hub;

pub use download::{download, Download, Downloaded, Observer};
pub use error::HubError;
pub use fetch::{fetch, Fetch};
