// SPDX-License-Identifier: Apache-2.0
#include "perseus/simgpu/shared_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <ctime>
#include <memory>
#include <new>
#include <string_view>
#include <utility>

#include "perseus/simgpu/physics.h"

namespace perseus::simgpu {
namespace {

/// A file descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

std::unexpected<core::Error> system_failure(const std::string& path, std::string_view what, int error) {
  core::ErrorCode code = core::ErrorCode::kIo;
  if (error == EEXIST) code = core::ErrorCode::kBusy;
  if (error == ENOENT) code = core::ErrorCode::kNotFound;
  if (error == EACCES || error == EPERM) code = core::ErrorCode::kPermission;
  return core::fail(
      code, fmt::format("{}: {}", what, std::error_code(error, std::generic_category()).message()), {path});
}

std::unexpected<core::Error> refuse(const std::string& path, std::string message) {
  return core::fail(core::ErrorCode::kInvalidInput, std::move(message), {path});
}

/// This boot of the kernel; CLOCK_MONOTONIC means nothing across boots. Empty where the kernel does not say.
std::array<char, 40> boot_id() {
  std::array<char, 40> text{};
  const Descriptor file(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  if (file.get() >= 0) {
    const ssize_t got = ::read(file.get(), text.data(), text.size() - 1);
    if (got < 36) text.fill(0);
  }
  return text;
}

template <std::size_t bytes>
void copy_text(std::array<char, bytes>& to, std::string_view text) {
  std::ranges::copy(text.substr(0, bytes - 1), to.begin());
}

std::int64_t nanoseconds(core::Seconds s) {
  return std::llround(s.value() * 1e9);
}

void fill_identity(GpuConstants& to, std::uint32_t index) {
  // A version 4 UUID whose bits come from the seed.
  const std::uint64_t high = (mix(to.seed, 3) & 0xFFFFFFFFFFFF0FFFU) | 0x4000U;
  const std::uint64_t low = (mix(to.seed, 4) & 0x3FFFFFFFFFFFFFFFU) | 0x8000000000000000U;
  copy_text(to.uuid, fmt::format("GPU-{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", high >> 32U,
                                 (high >> 16U) & 0xFFFFU, high & 0xFFFFU, low >> 48U, low & 0xFFFFFFFFFFFFU));
  to.pci_bus = 7 + 3 * index;  // below 256 for 64 GPUs
  copy_text(to.pci_bus_id, fmt::format("00000000:{:02X}:00.0", to.pci_bus));
}

void fill_constants(GpuConstants& to, const GpuSpec& from, std::uint64_t seed, std::uint32_t index) {
  to.seed = mix(seed, index);
  copy_text(to.name, from.name);
  fill_identity(to, index);
  to.pci_device_id = from.pci_device_id;
  to.clock_count = static_cast<std::uint32_t>(from.clocks.size());
  for (std::size_t i = 0; i < from.clocks.size(); ++i) {
    const ClockSpec& clock = from.clocks[i];
    to.clocks[i] = {clock.clock.value(), 0, clock.dynamic_power.value(), clock.static_power.value()};
  }
  to.memory_mhz = from.memory_clock.value();
  to.idle_w = from.idle_power.value();
  to.memory_w = from.memory_power.value();
  to.power_limit_w = from.power_limit.value();
  to.least_power_limit_w = from.least_power_limit.value();
  to.ambient_c = from.thermal.ambient.value();
  to.resistance_k_per_w = from.thermal.resistance_k_per_w;
  to.time_constant_s = from.thermal.time_constant.value();
  to.reference_c = from.thermal.reference.value();
  to.leakage_w_per_k = from.thermal.leakage_w_per_k;
  to.throttle_c = from.thermal.throttle.value();
  to.hysteresis_k = from.thermal.hysteresis_k;
  to.latency_median_s = from.latency.median.value();
  to.latency_sigma_targets = from.latency.sigma_of_targets;
  to.latency_sigma_switches = from.latency.sigma_of_switches;
  to.latency_least_s = from.latency.least.value();
  to.latency_most_s = from.latency.most.value();
  to.counter_period_ns = nanoseconds(from.counter_period);
  to.counter_phase_ns =
      static_cast<std::int64_t>(mix(to.seed, 5) % static_cast<std::uint64_t>(to.counter_period_ns));
  to.idle_after_ns = nanoseconds(from.idle_after);
  to.memory_bytes = from.memory_bytes;
  to.architecture = from.architecture;
  to.capability_major = from.capability_major;
  to.capability_minor = from.capability_minor;
  to.power_usage_is_average = from.power_usage_is_average ? 1 : 0;
}

/// At time 0: idle since ever, so at the temperature of idling.
DeviceState first_state(const DeviceShared& device) {
  DeviceState state{};
  state.idle = 1;
  state.idle_ns = state.pending_ns = kNever;
  state.persistence = 1;
  state.limit = device.constants.clock_count - 1;
  state.power_limit_w = device.constants.power_limit_w;
  return state;
}

bool make_mutex(pthread_mutex_t& mutex) {
  pthread_mutexattr_t attributes;
  if (pthread_mutexattr_init(&attributes) != 0) return false;
  const bool made = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0 &&
                    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0 &&
                    pthread_mutex_init(&mutex, &attributes) == 0;
  pthread_mutexattr_destroy(&attributes);
  return made;
}

bool fill(const SharedFile& file, const NodeSpec& spec) {
  NodeShared& node = file.node();
  node.version = kLayoutVersion;
  node.gpu_count = static_cast<std::uint32_t>(spec.gpus.size());
  node.bytes = file_bytes(spec.gpus.size());
  node.seed = spec.seed;
  node.time_scale = spec.manual_time ? 1 : spec.time_scale;
  node.manual_time = spec.manual_time ? 1 : 0;
  node.boot_id = boot_id();
  copy_text(node.driver_version, spec.driver_version);
  for (std::uint32_t i = 0; i < node.gpu_count; ++i) {
    DeviceShared& device = file.device(i);
    fill_constants(device.constants, spec.gpus[i], spec.seed, i);
    DeviceState state = first_state(device);
    const Stretch stretch = stretch_of(device.constants, state, Works(device.works));
    state.temperature_c = stretch.final_temperature_c;
    device.states.fill(state);
    if (!make_mutex(device.mutex)) return false;
  }
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  node.origin_ns = std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
  node.magic.store(kMagic, std::memory_order_release);
  return true;
}

core::Result<std::size_t> size_of(int fd, const std::string& path) {
  struct stat info{};
  if (::fstat(fd, &info) != 0) return system_failure(path, "cannot look at the state file", errno);
  if (!S_ISREG(info.st_mode)) return refuse(path, "is no regular file, so no state of a simulated machine");
  if (std::cmp_less(info.st_size, file_bytes(1))) {
    return refuse(path,
                  fmt::format("has {} bytes and so is no state of a simulated machine, which has at least {}",
                              info.st_size, file_bytes(1)));
  }
  return static_cast<std::size_t>(info.st_size);
}

core::Status check_header(const NodeShared& node, std::size_t bytes, const std::string& path) {
  if (node.magic.load(std::memory_order_acquire) != kMagic) {
    return refuse(path, "is no state of a simulated machine (its first 8 bytes say something else)");
  }
  if (node.version != kLayoutVersion) {
    return core::fail(
        core::ErrorCode::kUnsupported,
        fmt::format("has layout version {}; this build knows {}: destroy it and create it again",
                    node.version, kLayoutVersion),
        {path});
  }
  if (node.gpu_count < 1 || node.gpu_count > kMaxGpus || node.bytes != file_bytes(node.gpu_count) ||
      node.bytes != bytes) {
    return refuse(path, fmt::format("is damaged: {} bytes for {} GPUs", bytes, node.gpu_count));
  }
  const bool runs = node.time_scale > 0 && node.time_scale <= 1e6;
  if (!runs) return refuse(path, "is damaged: its time scale");
  if (node.boot_id != boot_id()) {
    return refuse(path, "is of an earlier boot of this machine: destroy it and create it again");
  }
  return {};
}

core::Status check_device(const GpuConstants& gpu, const std::string& path) {
  const bool sound = gpu.clock_count >= 1 && gpu.clock_count <= kMaxClocks && gpu.counter_period_ns > 0 &&
                     gpu.name.back() == 0 && gpu.uuid.back() == 0 && gpu.pci_bus_id.back() == 0 &&
                     gpu.time_constant_s > 0;
  return sound ? core::Status{} : refuse(path, "is damaged: the constants of a GPU");
}

}  // namespace

SharedFile::SharedFile(std::string path, void* memory, std::size_t bytes)
    : path_(std::move(path)), memory_(memory), bytes_(bytes) {}

SharedFile::SharedFile(SharedFile&& other) noexcept
    : path_(std::move(other.path_)),
      memory_(std::exchange(other.memory_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

SharedFile& SharedFile::operator=(SharedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(memory_, other.memory_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

SharedFile::~SharedFile() {
  if (memory_ != nullptr) ::munmap(memory_, bytes_);
}

DeviceShared& SharedFile::device(std::uint32_t gpu) const {
  auto* first = static_cast<std::byte*>(memory_) + kDevicesOffset;
  return *reinterpret_cast<DeviceShared*>(first + gpu * sizeof(DeviceShared));
}

core::Result<SharedFile> SharedFile::create(const std::string& path, const NodeSpec& spec) {
  PERSEUS_RETURN_IF_ERROR(validate(spec));
  const Descriptor fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (fd.get() < 0) return system_failure(path, "cannot create the state file", errno);
  const std::size_t bytes = file_bytes(spec.gpus.size());
  // Allocated now, so that a full file system is an error here and not a signal later.
  int error = ::posix_fallocate(fd.get(), 0, static_cast<off_t>(bytes));
  void* memory = MAP_FAILED;
  if (error == 0) {
    memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (memory == MAP_FAILED) error = errno;
  }
  // Not by open(): the process's umask must not decide it.
  if (error == 0 && ::fchmod(fd.get(), spec.every_user ? 0666 : 0600) != 0) error = errno;
  if (error != 0) {
    if (memory != MAP_FAILED) ::munmap(memory, bytes);
    ::unlink(path.c_str());
    return system_failure(path, "cannot create the state file", error);
  }
  SharedFile file(path, memory, bytes);
  if (!fill(file, spec)) {
    ::unlink(path.c_str());
    return core::fail(core::ErrorCode::kUnsupported, "this system has no robust process-shared mutexes",
                      {path});
  }
  return file;
}

core::Result<SharedFile> SharedFile::open(const std::string& path) {
  const Descriptor fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (fd.get() < 0) return system_failure(path, "cannot open the state of the simulated machine", errno);
  PERSEUS_ASSIGN_OR_RETURN(const std::size_t bytes, size_of(fd.get(), path));
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (memory == MAP_FAILED) return system_failure(path, "cannot map the state file", errno);
  SharedFile file(path, memory, bytes);
  PERSEUS_RETURN_IF_ERROR(check_header(file.node(), bytes, path));
  for (std::uint32_t i = 0; i < file.node().gpu_count; ++i) {
    PERSEUS_RETURN_IF_ERROR(check_device(file.device(i).constants, path));
  }
  return file;
}

}  // namespace perseus::simgpu
