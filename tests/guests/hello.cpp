// hello: says so, and how the machine looks, and powers off.
#include "tests/guests/runtime/console.hpp"
#include "tests/guests/runtime/cpu.hpp"

void guest::guest_main() {
    print("HELLO cpus={} ram_mib={} el={} arguments='{}'", machine().cpus, machine().ram_size >> 20,
          READ_REG("CurrentEL") >> 2, machine().arguments);
}
