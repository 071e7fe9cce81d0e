//! From a question about the cluster to records. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::ProtoError;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::zone::Match;
use crate::{Endpoint, Kind, Port, ServiceRecord, Zone};

/// Of every record and of every denial: what is cached is at most this old.
pub const TTL: u32 = 5;

/// Of the DNS specification that the records follow.
const SCHEMA: &str = "1.1.0";

#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub code: ResponseCode,
    pub answers: Vec<Record>,
    pub authorities: Vec<Record>,
    pub additionals: Vec<Record>,
    /// The last answer is a CNAME to this name, which is yet to be resolved.
    pub chase: Option<Name>,
}

/// `None`: the name is not ours to answer for.
///
/// `own` is the address of this server, for `ns.dns` below the domain; `turn` rotates the addresses of an answer.
pub fn answer(
    zone: &Zone,
    domain: &Name,
    own: Option<IpAddr>,
    name: &Name,
    kind: RecordType,
    turn: usize,
) -> Option<Answer> {
    let question = Question { zone, domain, own, name, kind, turn };
    if domain.zone_of(name) {
        if !zone.is_known() {
            return Some(Answer::code(ResponseCode::ServFail));
        }
        // Names below the domain are short: building them fails only where the question was near the limit.
        return Some(question.below_domain().unwrap_or_else(|_| Answer::code(ResponseCode::ServFail)));
    }
    question.reverse()
}

impl From<Message> for Answer {
    fn from(message: Message) -> Self {
        Self {
            code: message.metadata.response_code,
            answers: message.answers,
            authorities: message.authorities,
            additionals: message.additionals,
            chase: None,
        }
    }
}

impl Answer {
    pub fn code(code: ResponseCode) -> Self {
        Self { code, answers: Vec::new(), authorities: Vec::new(), additionals: Vec::new(), chase: None }
    }
}

struct Question<'a> {
    zone: &'a Zone,
    domain: &'a Name,
    own: Option<IpAddr>,
    name: &'a Name,
    kind: RecordType,
    turn: usize,
}

impl Question<'_> {
    fn below_domain(&self) -> Result<Answer, ProtoError> {
        let count = self.name.num_labels().saturating_sub(self.domain.num_labels());
        let labels: Vec<String> = self
            .name
            .iter()
            .take(usize::from(count))
            .map(|label| String::from_utf8_lossy(label).to_ascii_lowercase())
            .collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let Some(found) = self.zone.find(&labels) else {
            return self.denial(ResponseCode::NXDomain);
        };
        let mut answer = Answer::code(ResponseCode::NoError);
        match found {
            Match::Empty => {}
            Match::Apex => self.apex(&mut answer)?,
            Match::Version => self.push(&mut answer, RData::TXT(TXT::new(vec![SCHEMA.to_owned()]))),
            Match::Server => self.addresses(&mut answer, self.own),
            Match::Pod(addr) => self.addresses(&mut answer, [addr]),
            Match::Service { record, port } => self.service(&mut answer, record, port)?,
            Match::Endpoints { record, endpoints } => self.endpoints(&mut answer, record, &endpoints)?,
        }
        if answer.answers.is_empty() {
            return self.denial(ResponseCode::NoError);
        }
        Ok(answer)
    }

    fn reverse(&self) -> Option<Answer> {
        let arpa = self.name.parse_arpa_name().ok()?;
        if arpa.prefix_len() != arpa.max_prefix_len() {
            return None;
        }
        let names = self.zone.reverse(arpa.addr());
        if names.is_empty() {
            return None;
        }
        let mut answer = Answer::code(ResponseCode::NoError);
        for relative in names {
            let Ok(target) = self.absolute(&relative) else { continue };
            self.push(&mut answer, RData::PTR(PTR(target)));
        }
        if answer.answers.is_empty() {
            return self.denial(ResponseCode::NoError).ok();
        }
        Some(answer)
    }

    fn apex(&self, answer: &mut Answer) -> Result<(), ProtoError> {
        match self.kind {
            RecordType::SOA => answer.answers.push(self.soa()?),
            RecordType::NS => {
                let server = self.absolute("ns.dns")?;
                self.push(answer, RData::NS(NS(server.clone())));
                answer.additionals.extend(self.own.map(|addr| record(&server, address(addr))));
            }
            _ => {}
        }
        Ok(())
    }

    fn service(
        &self,
        answer: &mut Answer,
        service: &ServiceRecord,
        port: Option<(&str, &str)>,
    ) -> Result<(), ProtoError> {
        let wanted = |candidate: &&Port| port.is_none_or(|port| candidate.is(port));
        match &service.kind {
            Kind::ExternalName(target) => return self.external(answer, target),
            Kind::Headless => {
                let endpoints: Vec<&Endpoint> =
                    service.endpoints.iter().filter(|e| port.is_none() || e.ports.iter().any(|p| wanted(&p))).collect();
                if self.kind == RecordType::SRV {
                    for endpoint in &endpoints {
                        self.endpoint_srv(answer, service, endpoint, wanted)?;
                    }
                } else {
                    self.addresses(answer, endpoints.iter().map(|endpoint| endpoint.addr));
                }
            }
            Kind::ClusterIp(cluster_ips) if self.kind == RecordType::SRV => {
                let target = self.absolute(&format!("{}.{}.svc", service.name, service.namespace))?;
                for port in service.ports.iter().filter(wanted) {
                    self.push(answer, RData::SRV(SRV::new(0, 100, port.number, target.clone())));
                }
                answer.additionals.extend(cluster_ips.iter().map(|addr| record(&target, address(*addr))));
            }
            Kind::ClusterIp(cluster_ips) => self.addresses(answer, cluster_ips.iter().copied()),
        }
        Ok(())
    }

    fn endpoints(
        &self,
        answer: &mut Answer,
        service: &ServiceRecord,
        endpoints: &[&Endpoint],
    ) -> Result<(), ProtoError> {
        if self.kind != RecordType::SRV {
            self.addresses(answer, endpoints.iter().map(|endpoint| endpoint.addr));
            return Ok(());
        }
        for endpoint in endpoints {
            self.endpoint_srv(answer, service, endpoint, |_| true)?;
        }
        Ok(())
    }

    fn endpoint_srv(
        &self,
        answer: &mut Answer,
        service: &ServiceRecord,
        endpoint: &Endpoint,
        wanted: impl Fn(&&Port) -> bool,
    ) -> Result<(), ProtoError> {
        let target = self.absolute(&format!("{}.{}.{}.svc", endpoint.label(), service.name, service.namespace))?;
        for port in endpoint.ports.iter().filter(wanted) {
            self.push(answer, RData::SRV(SRV::new(0, 100, port.number, target.clone())));
        }
        answer.additionals.push(record(&target, address(endpoint.addr)));
        Ok(())
    }

    /// A CNAME, or the address where the "name" is one (as CoreDNS has it).
    fn external(&self, answer: &mut Answer, target: &str) -> Result<(), ProtoError> {
        if let Ok(addr) = target.parse() {
            self.addresses(answer, [addr]);
            return Ok(());
        }
        let mut target = Name::from_ascii(target)?;
        target.set_fqdn(true);
        answer.answers.push(record(self.name, RData::CNAME(CNAME(target.clone()))));
        if self.kind != RecordType::CNAME {
            answer.chase = Some(target);
        }
        Ok(())
    }

    /// Those of the family asked for, each once, beginning with another one each time.
    fn addresses(&self, answer: &mut Answer, addresses: impl IntoIterator<Item = IpAddr>) {
        let matching = |addr: &IpAddr| match self.kind {
            RecordType::A => addr.is_ipv4(),
            RecordType::AAAA => addr.is_ipv6(),
            RecordType::ANY => true,
            _ => false,
        };
        let mut addresses: Vec<IpAddr> =
            addresses.into_iter().filter(matching).collect::<BTreeSet<_>>().into_iter().collect();
        if !addresses.is_empty() {
            let turn = self.turn % addresses.len();
            addresses.rotate_left(turn);
        }
        answer.answers.extend(addresses.into_iter().map(|addr| record(self.name, address(addr))));
    }

    fn push(&self, answer: &mut Answer, data: RData) {
        if self.kind == data.record_type() || self.kind == RecordType::ANY {
            answer.answers.push(record(self.name, data));
        }
    }

    /// No such name, or no such record: the SOA lets resolvers cache that (RFC 2308).
    fn denial(&self, code: ResponseCode) -> Result<Answer, ProtoError> {
        Ok(Answer { authorities: vec![self.soa()?], ..Answer::code(code) })
    }

    fn soa(&self) -> Result<Record, ProtoError> {
        let hostmaster = self.absolute("hostmaster")?;
        let soa = SOA::new(self.absolute("ns.dns")?, hostmaster, 1, 7200, 1800, 86_400, TTL);
        Ok(record(self.domain, RData::SOA(soa)))
    }

    fn absolute(&self, relative: &str) -> Result<Name, ProtoError> {
        relative.split('.').try_fold(Name::new(), |name, label| name.append_label(label))?.append_domain(self.domain)
    }
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL, data)
}

fn address(addr: IpAddr) -> RData {
    match addr {
        IpAddr::V4(addr) => RData::A(A(addr)),
        IpAddr::V6(addr) => RData::AAAA(AAAA(addr)),
    }
}
