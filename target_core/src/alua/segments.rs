// SPDX-License-Identifier: GPL-2.0

//! A device's user data segments (SBC-4 4.28): its file `lba_map`.

use crate::device::Device;
use kernel::{
    prelude::*,
    sync::{atomic::Relaxed, Arc},
};
use lio_policy::alua::{Map, MapError, Segment, MAX_MEMBERS, MAX_SEGMENTS};
use lio_scsi::alua::{Member, State};

/// The segments, and the groups that each names.
pub(crate) struct Segments {
    size: u32,
    multiplier: u32,
    segments: KVec<Segment>,
    members: KVec<Member>,
}

impl Segments {
    pub(crate) fn map(&self) -> Map<'_> {
        Map::new(self.size, self.multiplier, &self.segments, &self.members)
    }

    fn read(text: &str) -> Result<Result<Option<Self>, MapError>> {
        let none = Member {
            group: 0,
            state: State::Optimized,
        };
        let mut segments = KVec::from_elem(Segment::default(), MAX_SEGMENTS, GFP_KERNEL)?;
        let mut members = KVec::from_elem(none, MAX_MEMBERS, GFP_KERNEL)?;
        let map = match Map::parse(text, &mut segments, &mut members) {
            Ok(Some(map)) => map,
            Ok(None) => return Ok(Ok(None)),
            Err(e) => return Ok(Err(e)),
        };
        let (from_segments, from_members) = map.parts();
        let mut this = Segments {
            size: map.size,
            multiplier: map.multiplier,
            segments: KVec::new(),
            members: KVec::new(),
        };
        this.segments.extend_from_slice(from_segments, GFP_KERNEL)?;
        this.members.extend_from_slice(from_members, GFP_KERNEL)?;
        Ok(Ok(Some(this)))
    }
}

impl Device {
    /// Sets the map, or takes it away. All groups support the logical block dependent state with one, and no group without.
    ///
    /// # Errors
    /// `ENOMEM`; what is wrong with the text.
    pub(crate) fn set_segments(&self, text: &str) -> Result<Result<(), MapError>> {
        let segments = match Segments::read(text)? {
            Ok(segments) => segments,
            Err(e) => return Ok(Err(e)),
        };
        let alua = self.alua();
        let there = segments.is_some();
        match segments {
            Some(segments) => {
                alua.segments.publish(Arc::new(segments, GFP_KERNEL)?)?;
            }
            None => {
                alua.segments.clear();
            }
        }
        alua.segmented.store(there, Relaxed);
        self.with_groups(|groups| {
            for group in groups.iter() {
                group.with(|s| {
                    if s.id.is_some() {
                        s.core.supported = s.core.supported.with(State::BlockDependent, there);
                    }
                });
                self.follow(group);
            }
        });
        Ok(Ok(()))
    }
}
