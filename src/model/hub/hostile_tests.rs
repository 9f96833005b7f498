//! Downloads from a small hub that means no good, or is damaged.

use super::download::Download;
use super::download_tests::{hub_error, hub_with_encoder, order, Place};
use super::small_hub::SmallHub;
use super::HubError;
use crate::error::ModelError;

const COMMIT: &str = "0123456789012345678901234567890123456789";

fn no_file_is_kept(place: &Place) {
    assert!(place.blobs().iter().all(|(name, _)| !name.contains("sha256-")), "{:?}", place.blobs());
}

#[test]
fn other_contents_than_announced_are_refused() {
    for size in [false, true] {
        let place = Place::new();
        let hub = hub_with_encoder();
        hub.behave(|conduct| if size { conduct.grows = -1 } else { conduct.flips_a_bit = true });
        match hub_error(place.download(&order(&hub))) {
            HubError::WrongContents { expected, found, .. } => assert_ne!(expected, found),
            other => panic!("{other:?}"),
        }
        no_file_is_kept(&place);
        // Once the hub is well again, so is the download.
        hub.behave(|conduct| (conduct.grows, conduct.flips_a_bit) = (0, false));
        place.download(&order(&hub)).unwrap();
    }
    let (hub, place) = (hub_with_encoder(), Place::new());
    hub.behave(|conduct| conduct.grows = 1000);
    assert!(matches!(hub_error(place.download(&order(&hub))), HubError::WrongContents { .. }));
}

#[test]
fn ranges_that_were_not_asked_for_are_refused() {
    let (hub, place) = (SmallHub::start(), Place::new());
    hub.push("org/tiny", "main", &[("model.gguf", &[7; 5000])]);
    hub.behave(|conduct| (conduct.cut_after, conduct.wrong_ranges) = (Some(100), true));
    assert!(matches!(hub_error(place.download(&order(&hub))), HubError::Invalid { .. }));
}

#[test]
fn statuses_are_told_apart() {
    let (hub, place) = (hub_with_encoder(), Place::new());
    let missing =
        |repo: &str, revision: &str| Download { repo: repo.to_owned(), revision: revision.to_owned(), ..order(&hub) };
    assert!(matches!(hub_error(place.download(&missing("org/none", "main"))), HubError::NotFound { .. }));
    assert!(matches!(hub_error(place.download(&missing("org/tiny", "v2"))), HubError::NotFound { .. }));
    for (status, expected) in [(401, "access"), (403, "access"), (404, "has no file"), (418, "status 418")] {
        let place = Place::new();
        hub.behave(|conduct| conduct.statuses = vec![status]);
        let error = hub_error(place.download(&order(&hub))).to_string();
        assert!(error.contains(expected), "{status}: {error}");
    }
    let place = Place::new();
    hub.behave(|conduct| conduct.statuses = vec![500, 503, 429]);
    place.download(&order(&hub)).unwrap();
    let place = Place::new();
    hub.behave(|conduct| conduct.statuses = vec![503; 20]);
    let error = hub_error(place.download(&order(&hub)));
    assert!(matches!(error, HubError::Unreachable { .. }) && error.to_string().contains("503"), "{error}");
    hub.behave(|conduct| (conduct.statuses, conduct.loops) = (Vec::new(), true));
    assert!(matches!(hub_error(Place::new().download(&order(&hub))), HubError::Invalid { .. }));
}

#[test]
fn limits_are_checked_before_a_byte_is_loaded() {
    let hub = SmallHub::start();
    let sized = |sizes: &[u64]| {
        let files = sizes.iter().enumerate().map(|(number, size)| {
            let hash = "ab".repeat(32);
            format!(r#"{{"rfilename": "{number}_M/model.safetensors", "lfs": {{"sha256": "{hash}", "size": {size}}}}}"#)
        });
        let root =
            format!(r#"{{"rfilename": "model.safetensors", "lfs": {{"sha256": "{}", "size": 1}}}}"#, "cd".repeat(32));
        let files: Vec<String> = files.chain([root]).collect();
        format!(r#"{{"sha": "{COMMIT}", "siblings": [{}]}}"#, files.join(",")).into_bytes()
    };
    let place = Place::new();
    for sizes in [vec![2000], vec![u64::MAX, u64::MAX]] {
        hub.behave(|conduct| conduct.listing = Some(sized(&sizes)));
        let error = hub_error(place.download(&Download { max_bytes: 1000, ..order(&hub) }));
        assert!(matches!(error, HubError::TooLarge { limit_bytes: 1000, .. }), "{error}");
    }
    hub.behave(|conduct| conduct.listing = Some(sized(&[1; 2000])));
    assert!(matches!(place.download(&order(&hub)), Err(ModelError::InvalidArgument(_))));
    hub.behave(|conduct| conduct.listing = Some(sized(&[1 << 60])));
    let error = hub_error(place.download(&Download { max_bytes: u64::MAX, ..order(&hub) }));
    assert!(matches!(error, HubError::DiskFull { needed_bytes, .. } if needed_bytes > 1 << 60), "{error}");
    assert!(hub.seen().iter().all(|seen| seen.path.starts_with("/api/")));
    no_file_is_kept(&place);
}

#[test]
fn lists_that_no_hub_would_give_are_refused() {
    let (hub, place) = (SmallHub::start(), Place::new());
    let named = |name: &str| {
        format!(r#"{{"sha": "{COMMIT}", "siblings": [{{"rfilename": "{name}", "size": 1, "blobId": "{COMMIT}"}}]}}"#)
    };
    for listing in [
        named("../../../config.json").into_bytes(),
        named("/tmp/config.json").into_bytes(),
        b"<html>".to_vec(),
        vec![b' '; 17 << 20],
    ] {
        hub.behave(|conduct| conduct.listing = Some(listing));
        assert!(matches!(hub_error(place.download(&order(&hub))), HubError::Invalid { .. }));
    }
    // Another commit than the one that was asked for.
    hub.behave(|conduct| conduct.listing = Some(named("config.json").into_bytes()));
    let other = Download { revision: "a".repeat(40), ..order(&hub) };
    assert!(matches!(hub_error(place.download(&other)), HubError::Invalid { .. }));
    // No weights.
    assert!(matches!(place.download(&order(&hub)), Err(ModelError::InvalidArgument(_))));
    let outside = place.dir.parent().unwrap().join("config.json");
    assert!(!outside.exists());
}

#[test]
fn an_index_cannot_name_files_outside() {
    let (hub, place) = (SmallHub::start(), Place::new());
    let index = br#"{"weight_map": {"a": "../../../../etc/passwd", "b": "model-1.safetensors"}}"#;
    let files: [(&str, &[u8]); 3] =
        [("config.json", b"{}"), ("model.safetensors.index.json", index), ("model-1.safetensors", b"x")];
    hub.push("org/tiny", "main", &files);
    assert!(matches!(place.download(&order(&hub)), Err(ModelError::Corrupt { .. })));
}

#[test]
fn bad_names_are_refused_before_anything_is_done() {
    let (hub, place) = (SmallHub::start(), Place::new());
    for request in [
        Download { repo: "../x".to_owned(), ..order(&hub) },
        Download { repo: "a/b/c".to_owned(), ..order(&hub) },
        Download { revision: "../main".to_owned(), ..order(&hub) },
        Download { patterns: vec!["*".repeat(1000)], ..order(&hub) },
        Download { endpoint: "file:///etc".to_owned(), ..order(&hub) },
    ] {
        assert!(matches!(place.download(&request), Err(ModelError::InvalidArgument(_))), "{request:?}");
    }
    assert!(hub.seen().is_empty());
    assert!(!place.dir.join("hub").exists());
}
