#!/bin/busybox sh
# PID 1 of a test machine. What it says to `cargo xtask vm` begins with "xb:".
export PATH=/usr/bin:/usr/sbin:/bin:/sbin:/xb HOME=/root

if [ "$1" != moved ]; then
    # runc needs a root that pivot_root can leave; the one that the kernel unpacks into is not.
    busybox mkdir -p /proc /root-fs
    busybox mount -t proc proc /proc
    busybox mount -t tmpfs -o size=80% root /root-fs
    busybox cp -a /bin /init /root-fs/
    cd /root-fs || exit 1
    # switch_root insists on an /init that it then removes.
    for entry in etc lib lib64 modules usr xb; do
        [ -e "/$entry" ] && bin/busybox cp -a "/$entry" . && bin/busybox rm -rf "/$entry"
    done
    bin/busybox mkdir -p proc sys dev tmp run root var/lib var/log var/tmp sbin usr/sbin
    bin/busybox umount /proc
    exec bin/busybox switch_root /root-fs /init moved
fi

/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ln -s /proc/self/fd /dev/fd
# The daemons must not be in the root cgroup: it cannot be limited, and its processes cannot be counted apart.
sed 's/ / +/g; s/^/+/' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
hostname xebec-vm
ip link set lo up
echo 1 >/proc/sys/net/ipv4/ip_forward
ulimit -n 65536
echo "xb: booted $(uname -r)"
for module in /modules/*.ko; do
    insmod "$module" || echo "xb: $module did not load"
done

load() {
    features >/tmp/features && sed 's/^/xb: feature /' /tmp/features && stats >/tmp/stats &&
        sed -n 's/^\([a-z0-9_]*\) = /xb: instructions \1 /p' /tmp/stats
}

tests=$(cat /xb/tests)

unit() { /xb/unit "$tests"; }

differential() { /xb/differential "$tests"; }

topology() { /xb/topology --test-threads=1 "$tests"; }

cluster() {
    export XEBEC=/usr/bin/xebec XEBEC_DEMO=/usr/bin/demo XEBEC_DEMO_IMAGE=/xb/demo.tar XEBEC_KUBECTL=/usr/bin/kubectl
    export XEBEC_PATIENCE=10
    /xb/cluster --test-threads=1 "${tests:-kernel::}"
}

now() { cut -d' ' -f1 /proc/uptime; }

while read -r step; do
    start=$(now)
    echo "=== $step"
    "$step" </dev/null 2>&1
    status=$?
    echo "xb: step $step $status $(echo "$(now) $start" | awk '{printf "%.1f", $1 - $2}')"
done </xb/steps
echo "xb: done"
poweroff -f
