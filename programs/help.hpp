// What `proa help TOPIC` says beyond the verbs' own option lists.
#pragma once

namespace proa {

inline constexpr const char* kConfigHelp =
    R"(A guest's configuration is a file in the syntax of xl.cfg(5): KEY = VALUE, a value being a
number, a "string" or a [ 'list', 'of', 'strings' ]; # begins a comment.

  name       letters, digits, _ . + -                                (must be there)
  kernel     arm64 Image, gzip or not, or a flat binary: a path      (must be there)
  ramdisk    initrd: a path
  extra      the kernel's command line (also: cmdline, root)
  memory     MiB, 16 to 62464; default 256. Taken from the host's 2 MiB huge pages
  vcpus      1 to 8; default 1
  cpus       where vCPUs may run: "0-3,^1", "all"
  cpu_weight share of a busy CPU, 1 to 65535; default 256
  disk       [ 'phy:/dev/vg/disk,xvda,w', 'file:/x.img,xvdb,r', 'format=raw,vdev=vda,access=rw,target=/y.img' ]
  vif        [ 'mac=00:16:3e:01:02:03,bridge=br0' ]
  on_poweroff, on_reboot, on_crash
             "destroy", "restart" or "preserve"; defaults destroy, restart, destroy
  auto_reprotect
             1: a protected guest that has lost its other host is protected again when that is back; default 0

Disks and consoles are virtio: the guest sees /dev/vda, /dev/vdb, ... in the order of `disk` (/dev/xvdX in `extra` is
translated), and hvc0. Keys that are not known are named in a warning and have no effect; proa create --dry-run FILE
checks a file without starting anything.
)";

}  // namespace proa
