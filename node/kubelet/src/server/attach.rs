//! `kubectl attach`: the streams of a container's main process are containerd's own, so its streaming server is asked and spliced.

use std::io;
use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use xebec_cri::exec::AttachOptions;

use super::session::{self, Input, Reader, Sender, Wanted};
use super::spdy::client::Session;
use super::{Answer, Refused, find, running};
use crate::kubelet::Kubelet;
use crate::pod;

pub(super) async fn serve(
    kubelet: &Arc<Kubelet>,
    mut request: Request<Incoming>,
    namespace: &str,
    name: &str,
    container: &str,
    query: &[(String, String)],
) -> Result<Answer, Refused> {
    let (pod, observed) = find(kubelet, namespace, name).await?;
    let id = running(&observed, namespace, name, container)?.id.clone();
    let wanted = Wanted::parse(query)?;
    let tty = pod::any_container(&pod, container).is_some_and(|c| c.tty == Some(true));
    let (answer, pending) = session::negotiate(&mut request, wanted)?;
    let kubelet = Arc::clone(kubelet);
    tokio::spawn(async move {
        let Some((mut sender, reader)) = pending.connect().await else { return };
        let options = AttachOptions { stdin: wanted.stdin, tty };
        let status = match kubelet.runtime.attach_url(&id, &options).await {
            Ok(url) => match splice(&url, &options, &mut sender, reader).await {
                Ok(()) => serde_json::json!({"metadata": {}, "status": "Success"}),
                Err(why) => super::exec::failure(&format!("error attaching to container: {why}")),
            },
            Err(error) => super::exec::failure(&error.message()),
        };
        sender.finish(&status).await;
    });
    Ok(answer)
}

async fn splice(url: &str, options: &AttachOptions, sender: &mut Sender, mut reader: Reader) -> Result<(), String> {
    let mut channels = vec![(session::ERROR, "error"), (session::STDOUT, "stdout")];
    let more = [(options.stdin, session::STDIN, "stdin"), (!options.tty, session::STDERR, "stderr")];
    channels.extend(more.into_iter().filter(|(wanted, ..)| *wanted).map(|(_, channel, kind)| (channel, kind)));
    channels.extend(options.tty.then_some((session::RESIZE, "resize")));
    let process = Session::open(url, &channels).await.map_err(|e| e.to_string())?;
    tokio::select! {
        heard = listen(&process, sender) => heard,
        said = speak(&process, &mut reader) => said.map_err(|e| e.to_string()),
    }
}

/// Until the process or the session ends, which is containerd's to say.
async fn listen(process: &Session, sender: &mut Sender) -> Result<(), String> {
    while let Some((channel, data)) = process.next().await.map_err(|e| e.to_string())? {
        if channel == session::ERROR {
            // containerd's own Status ends the session; ours says the same.
            return verdict(&data);
        }
        if !sender.send(channel, data).await {
            return Ok(());
        }
    }
    Ok(())
}

/// Until the client is gone.
async fn speak(process: &Session, reader: &mut Reader) -> io::Result<()> {
    loop {
        match reader.next().await {
            Input::Data(channel, data) => process.write(channel, data).await?,
            Input::Closed(channel) => process.finish(channel).await?,
            Input::Gone => return Ok(()),
        }
    }
}

fn verdict(status: &[u8]) -> Result<(), String> {
    let status: serde_json::Value = serde_json::from_slice(status).unwrap_or_default();
    if status["status"] == "Failure" {
        return Err(status["message"].as_str().unwrap_or("unknown error").to_owned());
    }
    Ok(())
}
