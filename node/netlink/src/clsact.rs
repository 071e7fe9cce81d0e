//! The qdisc that only holds filters (tc-clsact in tc(8)).

use futures::TryStreamExt;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage};

use crate::{Error, Handle, Result};

const KIND: &str = "clsact";

impl Handle {
    /// Removes the device's clsact qdisc if there is no filter in it. False if there is one, or no such qdisc.
    pub async fn remove_unused_clsact(&self, index: u32) -> Result<bool> {
        if !self.has_clsact(index).await? || self.has_filter(index).await? {
            return Ok(false);
        }
        let mut request = self.rt.qdisc().del(index.cast_signed());
        // `TC_H_CLSACT` is the number of `TC_H_INGRESS` (include/uapi/linux/pkt_sched.h).
        request.message_mut().header.parent = TcHandle::INGRESS;
        match request.execute().await.map_err(|e| Error::netlink("remove the clsact qdisc of link", index, e)) {
            Ok(()) => Ok(true),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn has_clsact(&self, index: u32) -> Result<bool> {
        let _dump = self.dump().await;
        let request = self.rt.qdisc().get().index(index.cast_signed());
        let listed: Vec<TcMessage> =
            request.execute().try_collect().await.map_err(|e| Error::netlink("list qdiscs of link", index, e))?;
        // Kernels before 4.20 tell of all devices.
        let is_clsact = |message: &TcMessage| {
            let of_kind = |attribute: &TcAttribute| matches!(attribute, TcAttribute::Kind(kind) if kind == KIND);
            message.header.index == index.cast_signed() && message.attributes.iter().any(of_kind)
        };
        Ok(listed.iter().any(is_clsact))
    }

    async fn has_filter(&self, index: u32) -> Result<bool> {
        let _dump = self.dump().await;
        let filters = || self.rt.traffic_filter(index.cast_signed()).get();
        for request in [filters().ingress(), filters().egress()] {
            let listed: Vec<TcMessage> =
                request.execute().try_collect().await.map_err(|e| Error::netlink("list filters of link", index, e))?;
            if !listed.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
