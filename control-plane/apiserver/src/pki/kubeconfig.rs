use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Issued;

/// A kubeconfig with one cluster, one user and one context.
pub fn render(server: &str, ca_pem: &str, user: &Issued) -> String {
    let ca = STANDARD.encode(ca_pem);
    let cert = STANDARD.encode(&user.cert_pem);
    let key = STANDARD.encode(&user.key_pem);
    format!(
        "apiVersion: v1
kind: Config
current-context: xebec
clusters:
- name: xebec
  cluster:
    server: {server}
    certificate-authority-data: {ca}
contexts:
- name: xebec
  context:
    cluster: xebec
    user: xebec-admin
users:
- name: xebec-admin
  user:
    client-certificate-data: {cert}
    client-key-data: {key}
"
    )
}
