//! Against a real containerd: sandboxes, containers, events, exec, import, and a `kill -9` of containerd.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use xebec_cri::event::Event;
use xebec_cri::exec::{ExecOptions, exec};
use xebec_cri::testing::{BUSYBOX_IMAGE, Containerd};
use xebec_cri::{ImageClient, RuntimeClient, v1};

fn sandbox(cgroup: &str, name: &str) -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.into(),
            uid: name.into(),
            namespace: "default".into(),
            attempt: 0,
        }),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: format!("{cgroup}/kubepods/{name}"),
            ..Default::default()
        }),
        log_directory: "/tmp".into(),
        ..Default::default()
    }
}

fn container(command: &[&str]) -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "main".into(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: BUSYBOX_IMAGE.into(), ..Default::default() }),
        command: command.iter().map(|s| s.to_string()).collect(),
        linux: Some(v1::LinuxContainerConfig::default()),
        ..Default::default()
    }
}

async fn run(containerd: &Containerd, options: &ExecOptions, id: &str, input: &[u8]) -> (i32, String, String) {
    let mut process = exec(containerd.channel(), id, options, &containerd.dir.join("fifo")).await.unwrap();
    if let Some(mut stdin) = process.stdin.take() {
        stdin.write_all(input).await.unwrap();
        drop(stdin);
        process.control().close_stdin().await.unwrap();
    }
    let (mut out, mut err) = (String::new(), String::new());
    if let Some(mut stdout) = process.stdout.take() {
        stdout.read_to_string(&mut out).await.unwrap();
    }
    if let Some(mut stderr) = process.stderr.take() {
        stderr.read_to_string(&mut err).await.unwrap();
    }
    (process.wait().await.unwrap(), out, err)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_live_through_exec_events_and_a_killed_containerd() {
    let mut containerd = Containerd::start().await;
    let runtime = RuntimeClient::new(containerd.channel());
    let images = ImageClient::new(containerd.channel());
    assert!(images.status(BUSYBOX_IMAGE).await.unwrap().is_some());
    assert!(images.status("absent:1").await.unwrap().is_none());
    assert!(images.pull("registry.invalid/absent:1", None).await.is_err());

    let (sender, mut events) = mpsc::channel(64);
    tokio::spawn(xebec_cri::event::watch(containerd.channel(), sender));
    let started = Instant::now();
    let config = sandbox(&containerd.cgroup, "pod-a");
    let pod = runtime.run_pod_sandbox(config.clone()).await.unwrap();
    let ran = started.elapsed();
    let id = runtime.create_container(&pod, container(&["sleep", "100000"]), config.clone()).await.unwrap();
    let created = started.elapsed();
    runtime.start_container(&id).await.unwrap();
    eprintln!(
        "run sandbox {ran:?}, create container (first use of the image) {:?}, start {:?}",
        created - ran,
        started.elapsed() - created
    );
    let (status, info) = runtime.pod_sandbox_status(&pod, true).await.unwrap();
    assert_eq!(status.network.unwrap().ip, "127.9.9.9");
    assert!(info["info"].contains("\"network\""));

    let options = |command: &[&str]| ExecOptions {
        command: command.iter().map(|s| s.to_string()).collect(),
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    };
    let big = vec![b'x'; 300_000];
    let (code, out, _) = run(&containerd, &options(&["sh", "-c", "cat; echo err >&2; exit 7"]), &id, b"hello").await;
    assert_eq!((code, out.as_str()), (7, "hello"));
    let started = Instant::now();
    let (code, _, err) = run(&containerd, &options(&["sh", "-c", "echo err >&2"]), &id, b"").await;
    eprintln!("exec {:?}", started.elapsed());
    assert_eq!((code, err.as_str()), (0, "err\n"));
    // More than a FIFO holds, consumed without being echoed.
    let (code, out, _) =
        run(&containerd, &options(&["sh", "-c", "cat | dd of=/dev/null 2>/dev/null; echo done"]), &id, &big).await;
    assert_eq!((code, out.as_str()), (0, "done\n"));
    let tty = ExecOptions { tty: true, stdin: false, ..options(&["sh", "-c", "stty size; echo e >&2"]) };
    let (code, out, _) = run(&containerd, &tty, &id, b"").await;
    assert_eq!(code, 0);
    assert!(out.contains("e\r\n"), "{out:?}");
    let missing = exec(containerd.channel(), &id, &options(&["/nothing"]), &containerd.dir.join("fifo")).await;
    assert!(missing.unwrap_err().message().contains("no such file"));
    assert!(std::fs::read_dir(containerd.dir.join("fifo")).unwrap().next().is_none());

    containerd.kill();
    containerd.run().await;
    assert_eq!(runtime.container_status(&id).await.unwrap().state, v1::ContainerState::ContainerRunning as i32);
    let answer = runtime.exec_sync(&id, vec!["echo".into(), "again".into()], Duration::from_secs(5)).await.unwrap();
    assert_eq!(answer.stdout, b"again\n");
    while events.try_recv().is_ok() {}
    // containerd sends headers with the first event, so the subscription shows by one that is made: starts are retried until seen.
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut short = container(&["false"]);
        short.metadata = Some(v1::ContainerMetadata { name: "short".into(), attempt });
        let short = runtime.create_container(&pod, short, config.clone()).await.unwrap();
        runtime.start_container(&short).await.unwrap();
        let seen = tokio::time::timeout(Duration::from_secs(1), async {
            while let Some(event) = events.recv().await {
                if event == (Event::Exited { container_id: short.clone(), exit_status: 1 }) {
                    return true;
                }
            }
            false
        });
        if seen.await == Ok(true) {
            break;
        }
        assert!(Instant::now() < deadline, "no event after containerd's restart");
    }
    runtime.stop_pod_sandbox(&pod).await.unwrap();
    runtime.remove_pod_sandbox(&pod).await.unwrap();
    assert!(runtime.list_containers(HashMap::new()).await.unwrap().is_empty());
}
