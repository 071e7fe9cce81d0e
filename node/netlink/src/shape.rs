//! How fast a device sends: a token bucket as its queueing discipline (tc-tbf(8)).

use futures::{StreamExt, TryStreamExt};
use rtnetlink::packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload, Nla,
    NlasIterator,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};

use crate::{Error, Handle, Result};

const KIND: &str = "tbf";
/// Tells ours from what others put there.
const HANDLE: TcHandle = TcHandle { major: 0x7862, minor: 0 };

/// include/uapi/linux/pkt_sched.h.
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const TC_LINKLAYER_ETHERNET: u8 = 1;
/// `struct tc_tbf_qopt`: two rates of twelve bytes, limit, buffer and mtu.
const PARMS_BYTES: usize = 36;
/// In it: the link layer and the number of the first rate, and the limit.
const LINKLAYER_AT: usize = 1;
const RATE_AT: usize = 8;
const LIMIT_AT: usize = 24;

/// A limit of what a device sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    pub bytes_per_s: u64,
    /// What may be sent at once.
    pub burst_bytes: u32,
    /// What may wait; more is dropped.
    pub limit_bytes: u32,
}

impl Handle {
    /// Makes the device send no faster; packets that wait stay when the rate changes. False if it was so already.
    ///
    /// # Errors
    /// [`Error::NoQueue`] on a kernel without the token bucket.
    pub async fn shape(&self, index: u32, shape: &Shape) -> Result<bool> {
        if self.shaped(index).await? == Some(shape.bytes_per_s) {
            return Ok(false);
        }
        let mut message = TcMessage::with_index(index.cast_signed());
        message.header.parent = TcHandle::ROOT;
        message.header.handle = HANDLE;
        message.attributes.push(TcAttribute::Kind(KIND.to_owned()));
        message.attributes.push(TcAttribute::Options(shape.options()));
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let failed = |error| Error::netlink("limit what is sent by link", index, error);
        let mut answers = self.rt.clone().request(request).map_err(failed)?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload
                && error.code.is_some()
            {
                // Of a device that is gone it would be ENODEV (net/sched/sch_api.c).
                let is_unknown = error.to_io().raw_os_error() == Some(libc::ENOENT);
                let failed = failed(rtnetlink::Error::NetlinkError(error));
                return Err(if is_unknown { Error::NoQueue(KIND) } else { failed });
            }
        }
        Ok(true)
    }

    /// Lets the device send as fast as it can, if [`Handle::shape`] limited it. False if it did not.
    pub async fn unshape(&self, index: u32) -> Result<bool> {
        if self.shaped(index).await?.is_none() {
            return Ok(false);
        }
        let mut request = self.rt.qdisc().del(index.cast_signed());
        request.message_mut().header.parent = TcHandle::ROOT;
        match request.execute().await.map_err(|e| Error::netlink("unlimit what is sent by link", index, e)) {
            Ok(()) => Ok(true),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The bytes a second that [`Handle::shape`] limits the device to, if it does.
    pub async fn shaped(&self, index: u32) -> Result<Option<u64>> {
        let _dump = self.dump().await;
        let request = self.rt.qdisc().get().index(index.cast_signed());
        let listed: Vec<TcMessage> =
            request.execute().try_collect().await.map_err(|e| Error::netlink("list queues of link", index, e))?;
        // Kernels before 4.20 tell of all devices.
        let ours = |message: &&TcMessage| {
            let header = &message.header;
            header.index == index.cast_signed() && header.parent == TcHandle::ROOT && header.handle == HANDLE
        };
        Ok(listed.iter().find(ours).and_then(rate))
    }
}

impl Shape {
    fn options(&self) -> Vec<TcOption> {
        let mut parms = vec![0; PARMS_BYTES];
        parms[LINKLAYER_AT] = TC_LINKLAYER_ETHERNET;
        let rate = u32::try_from(self.bytes_per_s).unwrap_or(u32::MAX);
        parms[RATE_AT..RATE_AT + 4].copy_from_slice(&rate.to_ne_bytes());
        parms[LIMIT_AT..LIMIT_AT + 4].copy_from_slice(&self.limit_bytes.to_ne_bytes());
        let option = |kind, bytes| TcOption::Other(DefaultNla::new(kind, bytes));
        vec![
            option(TCA_TBF_PARMS, parms),
            option(TCA_TBF_RATE64, self.bytes_per_s.to_ne_bytes().to_vec()),
            option(TCA_TBF_BURST, self.burst_bytes.to_ne_bytes().to_vec()),
        ]
    }
}

/// What a token bucket says of itself: its rate as one word, and as two where one does not hold it.
fn rate(message: &TcMessage) -> Option<u64> {
    let is_bucket = message.attributes.iter().any(|a| matches!(a, TcAttribute::Kind(kind) if kind == KIND));
    let options = message.attributes.iter().find_map(|attribute| match attribute {
        // The options of this kind come as one attribute that nobody has parsed.
        TcAttribute::Options(options) => options.first(),
        _ => None,
    });
    let Some(TcOption::Other(nest)) = options.filter(|_| is_bucket) else { return None };
    let mut bytes = vec![0; nest.value_len()];
    nest.emit_value(&mut bytes);
    let (mut small, mut large) = (None, None);
    for option in NlasIterator::new(bytes.as_slice()).flatten() {
        match option.kind() {
            TCA_TBF_PARMS => small = option.value().get(RATE_AT..RATE_AT + 4)?.try_into().ok().map(u32::from_ne_bytes),
            TCA_TBF_RATE64 => large = option.value().get(..8)?.try_into().ok().map(u64::from_ne_bytes),
            _ => {}
        }
    }
    large.or(small.map(u64::from))
}
