# Builds the tests for 64-bit ARM (NEON) on another machine and runs them in an emulator; Debian and Ubuntu have both as
# g++-aarch64-linux-gnu and qemu-user-static. AddressSanitizer does not run in the emulator.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR "qemu-aarch64-static;-L;/usr/aarch64-linux-gnu")
set(SANITIZE "undefined,float-cast-overflow" CACHE STRING "Sanitizers, as -fsanitize= takes them")
