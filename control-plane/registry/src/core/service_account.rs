//! ServiceAccounts: metadata and a list of secrets.

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::strategy::{Column, Strategy, named};
use crate::value::items;

pub struct ServiceAccount;

impl Strategy for ServiceAccount {
    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::integer("Secrets", "How many secrets the account may use."), Column::AGE] }
    }

    fn row(&self, account: &Value, now: OffsetDateTime) -> Vec<Value> {
        named(account, now, [json!(items(account, "secrets").len())])
    }
}
