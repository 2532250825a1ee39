//! What the workers of a writer leave to each other.

use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_codec::Profile;

use super::work;
use crate::commit::{Contents, Draft};
use crate::progress::Silent;
use crate::testing::{World, noise};
use crate::write_error::WriteError;

#[test]
fn the_last_segment_of_a_lane_is_never_left_to_a_worker_that_goes_home() {
    let (_world, mut repository) = World::new();
    let content = noise(1, 100_000);
    let never = AtomicBool::new(false);
    let result = repository.backup(&Draft::default(), &Silent, &never, |writer| {
        // A worker that has seen that all is done and has not come to say that it is no longer idle.
        writer.idle.store(1, Ordering::SeqCst);
        work(writer, 1, vec![()], |lane, (), _| {
            lane.put_stream(Profile::Files, &mut content.as_slice())
                .map(drop)
        })?;
        assert!(writer.board.lock().unwrap().jobs.is_empty());
        Err::<Contents, _>(WriteError::Stopped)
    });
    assert!(matches!(result, Err(WriteError::Stopped)));
}
