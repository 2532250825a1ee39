//! Names of objects, and the place of a repository.

use lifeboat_codec::{
    SnapshotName, pack_name, parse_name, parse_pack_name, parse_slot_name, slot_name,
};
use lifeboat_store::{Location, ObjectName};

/// Takes the bytes as an object's name and as a repository's location.
///
/// - A name that is read as something is the one name that it is written as, and one that every store can hold.
/// - A name leads nowhere else: no component is empty or begins with a dot.
/// - The path of a location is the same when it is said to be one.
pub fn name(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let stored = ObjectName::new(text.as_ref());
    if let Ok(name) = &stored {
        assert_eq!(name.as_str(), text);
        assert!(
            name.as_str()
                .split('/')
                .all(|part| !part.is_empty() && !part.starts_with('.'))
        );
    }
    if parse_name(&text).is_some() {
        assert!(stored.is_ok(), "{text:?}");
    }
    if let Some((kind, id, run)) = parse_pack_name(&text) {
        assert_eq!(pack_name(kind, id, run), text);
    }
    if let Some((name, confirm)) = SnapshotName::parse(&text) {
        assert_eq!(
            if confirm {
                name.confirm()
            } else {
                name.intent()
            },
            text
        );
    }
    if let Some((id, version)) = parse_slot_name(&text) {
        assert_eq!(slot_name(id, version), text);
    }
    if let Ok(Location::Folder(path)) = text.parse::<Location>() {
        assert!(!path.as_os_str().is_empty());
        if path.starts_with("/") && !path.as_os_str().as_encoded_bytes().starts_with(b"//") {
            let said = format!("file:{}", path.display());
            assert_eq!(said.parse(), Ok(Location::Folder(path)));
        }
    }
}
