// Waits for the guest's power button, then becomes the command it was given: what acpid or logind do in a full system.
// Where gpio-keys is in the kernel the button is an input device; Debian's cloud kernel lacks it, so there the GPIO line
// itself is watched.
#include <fcntl.h>
#include <linux/gpio.h>
#include <linux/input.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

namespace {

constexpr unsigned kLine = 3;  // as in the device tree of QEMU's virt machine

bool line_pressed() {
    const int chip = ::open("/dev/gpiochip0", O_RDONLY | O_CLOEXEC);
    gpio_v2_line_request r{};
    r.offsets[0] = kLine;
    r.num_lines = 1;
    r.config.flags = GPIO_V2_LINE_FLAG_INPUT | GPIO_V2_LINE_FLAG_EDGE_RISING;
    std::strcpy(r.consumer, "power-button");
    if (chip < 0 || ::ioctl(chip, GPIO_V2_GET_LINE_IOCTL, &r) != 0) return false;
    gpio_v2_line_event e;
    return ::read(r.fd, &e, sizeof(e)) == sizeof(e);
}

bool key_pressed() {
    for (unsigned n = 0; n < 8; ++n) {
        char path[32];
        std::snprintf(path, sizeof(path), "/dev/input/event%u", n);
        const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
        unsigned char keys[KEY_MAX / 8 + 1] = {};
        if (fd < 0 || ::ioctl(fd, EVIOCGBIT(EV_KEY, sizeof(keys)), keys) < 0 ||
            (keys[KEY_POWER / 8] >> KEY_POWER % 8 & 1) == 0)
            continue;
        for (input_event e; ::read(fd, &e, sizeof(e)) == sizeof(e);)
            if (e.type == EV_KEY && e.code == KEY_POWER && e.value == 1) return true;
    }
    return false;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2 || (!line_pressed() && !key_pressed())) return 1;
    ::execvp(argv[1], argv + 1);
    return 127;
}
