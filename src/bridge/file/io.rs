//! Opens files below the folder of `media_dir`, and reads each ahead on a thread of its own, which waits while enough
//! lies ready and ends with its player.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use crate::bridge::config::BridgeConfig;
use crate::bridge::file::reader::Reader;
use crate::bridge::file::{FileError, Item, Opened, Sample};
use crate::core::io::below;

/// Frames that lie ready: some seconds of sound and picture.
const READ_AHEAD: usize = 256;

/// Opens `name` below `folder`; `repeats`: it begins anew at its end. It blocks on the disk.
pub fn open(folder: &Path, name: &str, repeats: bool, config: &BridgeConfig) -> Result<Opened, FileError> {
    let file = below::open(folder, name).map_err(|_| FileError::NotFound)?;
    let source = Source { file, extension: name.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase()) };
    let broke = |_| FileError::Broken("it is damaged".to_owned());
    let (tracks, reader) = catch_unwind(AssertUnwindSafe(|| {
        let reordered = source.reader(config)?.find_reordered();
        let reader = source.reader(config)?;
        Ok::<_, FileError>((reader.tracks(reordered), reader))
    }))
    .map_err(broke)??;
    let (sender, items) = sync_channel(READ_AHEAD);
    let config = config.clone();
    let body = move || {
        let read = catch_unwind(AssertUnwindSafe(|| read(&source, reader, repeats, &config, &sender)));
        let last = match read.map_err(broke).and_then(|read| read) {
            Ok(()) => Item::End,
            Err(error) => Item::Failed(error),
        };
        // The player may have gone.
        let _ = sender.send(last);
    };
    let started = thread::Builder::new().name("viaduct-file".to_owned()).spawn(body);
    started.map_err(|error| FileError::Broken(error.to_string()))?;
    Ok(Opened { tracks, items })
}

struct Source {
    file: File,
    extension: Option<String>,
}

impl Source {
    /// Reads it from its beginning.
    fn reader(&self, config: &BridgeConfig) -> Result<Reader, FileError> {
        let broken = |error: std::io::Error| FileError::Broken(error.to_string());
        let mut file = self.file.try_clone().map_err(broken)?;
        file.seek(SeekFrom::Start(0)).map_err(broken)?;
        Reader::open(Box::new(file), self.extension.as_deref(), config)
    }
}

/// Reads to the end, or for ever; `Ok` also when the player has gone.
fn read(
    source: &Source,
    mut reader: Reader,
    repeats: bool,
    config: &BridgeConfig,
    items: &SyncSender<Item>,
) -> Result<(), FileError> {
    let mut round = 0i64;
    loop {
        while let Some(sample) = reader.next()? {
            let sample = Sample { time: sample.time.saturating_add(round), ..sample };
            if items.send(Item::Sample(sample)).is_err() {
                return Ok(());
            }
        }
        // A file without length would be read without end, and without anything to wait for.
        if !repeats || reader.end() <= 0 {
            return Ok(());
        }
        round = round.saturating_add(reader.end());
        reader = source.reader(config)?;
    }
}
