//! In place of [`bridge`](../bridge.rs), in programs that know one layout of flows: nothing is ever bridged.

use xebec_abi::{Flow, FlowKey, MapId};
use xebec_logic::{Family, FlowMap};

pub trait Bridged: Family {}
impl<A: Family> Bridged for A {}

#[inline(always)]
pub const fn is_migrating(_: MapId) -> bool {
    false
}

#[inline(always)]
pub fn fetch<A: Bridged>(_: FlowMap, _: &FlowKey<A>) -> *mut Flow<A> {
    core::ptr::null_mut()
}

#[inline(always)]
pub fn look<A: Bridged, R>(_: FlowMap, _: &FlowKey<A>, _: impl FnOnce(&Flow<A>) -> R) -> Option<R> {
    None
}

#[inline(always)]
pub fn store<A: Bridged>(_: FlowMap, _: &FlowKey<A>) {}

#[inline(always)]
pub fn put<A: Bridged>(_: FlowMap, _: &FlowKey<A>, _: &Flow<A>) -> i32 {
    0
}

#[inline(always)]
pub fn add<A: Bridged>(_: FlowMap, _: &FlowKey<A>, _: &Flow<A>) -> i32 {
    0
}

#[inline(always)]
pub fn remove<A: Bridged>(_: FlowMap, _: &FlowKey<A>) {}
