use tokio::io::AsyncReadExt;

use super::*;

#[tokio::test]
async fn streams_carry_bytes_both_ways() {
    let (mut client, server) = tokio::io::duplex(1 << 16);
    let (sender, mut accepted) = mpsc::channel(4);
    let session = tokio::spawn(run(server, sender));
    let mut compressor = Compressor::new().unwrap();
    let block = compressor.encode(&[("streamType", "data"), ("port", "80")]).unwrap();
    client.write_all(&frame::syn_stream(1, &block)).await.unwrap();
    client.write_all(&frame::frame(1, 0, b"question")).await.unwrap();
    client.write_all(&frame::frame(1, 1, b"")).await.unwrap();
    let mut stream = accepted.recv().await.unwrap();
    assert_eq!(stream.headers["streamtype"], "data");
    assert_eq!(stream.read().await.unwrap(), "question");
    assert_eq!(stream.read().await, None);
    assert!(stream.writer().write(Bytes::from_static(b"answer")).await);
    stream.writer().finish().await;
    let reply = client.read_u32().await.unwrap();
    assert_eq!(reply, 0x8003_0002);
    let length = client.read_u32().await.unwrap();
    client.read_exact(&mut vec![0; length as usize]).await.unwrap();
    let mut data = [0; 14 + 8];
    client.read_exact(&mut data).await.unwrap();
    assert_eq!(&data[..14], [&[0, 0, 0, 1, 0, 0, 0, 6][..], b"answer"].concat());
    assert_eq!(&data[14..], [0, 0, 0, 1, 1, 0, 0, 0]);
    drop(client);
    session.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_peer_that_breaks_the_rules_ends_its_session() {
    for bytes in [&[0x80, 2, 0, 1, 0, 0, 0, 0][..], &[0x80, 3, 0, 1, 0, 0, 0, 1, 0], &[0, 0, 0, 1, 0, 255, 255, 255]] {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let (sender, _accepted) = mpsc::channel(4);
        client.write_all(bytes).await.unwrap();
        assert!(run(server, sender).await.is_err(), "{bytes:?}");
    }
}
