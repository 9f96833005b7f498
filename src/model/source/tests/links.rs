//! Symbolic links in the folder of a model.

use super::*;

#[test]
fn links_stay_in_the_folder_of_the_model() {
    use std::os::unix::fs::symlink;
    let (folder, elsewhere) = (tiny_model(), Folder::new());
    let config = std::fs::read(folder.0.join("config.json")).unwrap();
    let replace_config = |target: &Path| {
        std::fs::remove_file(folder.0.join("config.json")).unwrap();
        symlink(target, folder.0.join("config.json")).unwrap();
    };
    let registered = folder.inspect().unwrap();
    // Within the folder, also by way of the parent's name.
    folder.write("other/config.json", &config);
    replace_config(Path::new("other/config.json"));
    assert_eq!(folder.inspect().unwrap().files, registered.files);
    // To the same contents somewhere else: refused at registration and at loading.
    elsewhere.write("config.json", &config);
    replace_config(&elsewhere.0.join("config.json"));
    assert!(matches!(folder.inspect(), Err(ModelError::LinkedOutside(path)) if path.ends_with("config.json")));
    let model = ModelRef {
        remote: None,
        name: "linked".into(),
        kind: ModelKind::Embed,
        path: folder.0.to_str().unwrap().to_owned(),
        files: registered.files.clone(),
        options_json: "{}".into(),
        base: None,
    };
    assert!(matches!(verify(&model), Err(ModelError::LinkedOutside(_))));
    // A folder that is reached by a link is nobody's trick: whoever registers it names it.
    let by_link = elsewhere.0.join("model");
    std::fs::remove_file(folder.0.join("config.json")).unwrap();
    folder.write("config.json", &config);
    symlink(&folder.0, &by_link).unwrap();
    assert_eq!(inspect(ModelKind::Embed, &by_link).unwrap().files, registered.files);

    // The cache of the hub's own tools.
    let cache = Folder::new();
    let snapshot = cache.0.join("models--o--n/snapshots/abc");
    std::fs::create_dir_all(cache.0.join("models--o--n/blobs")).unwrap();
    std::fs::create_dir_all(&snapshot).unwrap();
    for file in &registered.files {
        let (blob, link) = (cache.0.join("models--o--n/blobs").join(&file.sha256), snapshot.join(&file.name));
        std::fs::copy(folder.0.join(&file.name), &blob).unwrap();
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(&blob, &link).unwrap();
    }
    assert_eq!(inspect(ModelKind::Embed, &snapshot).unwrap().files, registered.files);
    std::fs::remove_file(snapshot.join("config.json")).unwrap();
    symlink(elsewhere.0.join("config.json"), snapshot.join("config.json")).unwrap();
    assert!(matches!(inspect(ModelKind::Embed, &snapshot), Err(ModelError::LinkedOutside(_))));
}
