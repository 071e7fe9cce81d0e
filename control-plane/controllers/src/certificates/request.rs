//! What a PKCS #10 request asks for.

use std::net::IpAddr;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

#[derive(PartialEq, Eq, Default, Debug)]
pub(super) struct Request {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub addresses: Vec<IpAddr>,
    /// Names of other types: mail addresses, URIs.
    pub other_names: usize,
}

impl Request {
    pub(super) fn parse(pem: &[u8]) -> Option<Self> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem).ok()?;
        let (_, csr) = X509CertificationRequest::from_der(&pem.contents).ok()?;
        let subject = &csr.certification_request_info.subject;
        let mut request = Self {
            common_name: subject.iter_common_name().next()?.as_str().ok()?.to_string(),
            organizations: subject.iter_organization().filter_map(|o| o.as_str().ok().map(String::from)).collect(),
            ..Self::default()
        };
        for extension in csr.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                names.general_names.iter().for_each(|name| request.add(name));
            }
        }
        Some(request)
    }

    fn add(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(dns) => self.dns_names.push((*dns).into()),
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                match v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)) {
                    Ok(address) => self.addresses.push(address),
                    Err(_) => self.other_names += 1,
                }
            }
            _ => self.other_names += 1,
        }
    }
}
