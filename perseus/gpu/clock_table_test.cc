// SPDX-License-Identifier: Apache-2.0
#include "perseus/gpu/clock_table.h"

#include <gmock/gmock.h>

#include <thread>

#include "tests/fake_gpu/fake_device.h"

namespace perseus::gpu {
namespace {

using core::ErrorCode;
using core::Megahertz;
using testing::ElementsAre;

const Identity kDevice{.index = 3, .uuid = "GPU-1-2", .pci_bus_id = "", .name = ""};
const std::vector<Megahertz> kClocks = {Megahertz{210}, Megahertz{900}, Megahertz{915}};

std::string refusal(std::uint32_t mhz, const std::vector<Megahertz>& clocks = kClocks) {
  const auto status = check_clock(clocks, Megahertz{mhz}, kDevice);
  if (status) return "accepted";
  EXPECT_EQ(status.error().code(), ErrorCode::kInvalidInput);
  return status.error().text();
}

TEST(ClockTable, TidiesWhatADriverLists) {
  EXPECT_THAT(tidy_clocks({Megahertz{915}, Megahertz{0}, Megahertz{210}, Megahertz{915}}),
              ElementsAre(Megahertz{210}, Megahertz{915}));
}

TEST(ClockTable, AcceptsExactlyWhatIsListed) {
  EXPECT_EQ(refusal(210), "accepted");
  EXPECT_EQ(refusal(915), "accepted");
  EXPECT_EQ(refusal(907),
            "GPU 3 (GPU-1-2): 907 MHz is not one of its clocks; the nearest are 900 and 915 MHz");
  EXPECT_EQ(refusal(0), "GPU 3 (GPU-1-2): 0 MHz is not one of its clocks; the lowest is 210 MHz");
  EXPECT_EQ(refusal(99'999), "GPU 3 (GPU-1-2): 99999 MHz is not one of its clocks; the highest is 915 MHz");
  EXPECT_EQ(refusal(210, {}), "GPU 3 (GPU-1-2): 210 MHz is not one of its clocks; it offers none");
}

// The test double keeps the contract of Device, or what is tested with it proves nothing.
TEST(FakeDevice, RemembersFailsAndWaits) {
  using tests::Call;
  using tests::Event;
  tests::FakeBackend backend(2);
  tests::FakeDevice& gpu = backend.device(1);
  ASSERT_TRUE(gpu.lock_clock(Megahertz{900}));
  EXPECT_EQ(gpu.locked(), Megahertz{900});
  EXPECT_EQ(gpu.sm_clock().value(), Megahertz{900});
  EXPECT_EQ(gpu.lock_clock(Megahertz{907}).error().code(), ErrorCode::kInvalidInput);

  gpu.fail(Call::kResetClock, core::Error(ErrorCode::kDriver, "not now"), 1);
  EXPECT_EQ(gpu.reset_clock().error().text(), "not now");
  gpu.hold(Call::kResetClock);
  std::thread caller([&] { EXPECT_TRUE(gpu.reset_clock()); });
  gpu.wait_until_held(Call::kResetClock);
  EXPECT_EQ(gpu.locked(), Megahertz{900});
  gpu.release(Call::kResetClock);
  caller.join();
  EXPECT_EQ(gpu.locked(), std::nullopt);
  EXPECT_THAT(
      backend.history(),
      ElementsAre(Event{1, Call::kLockClock, Megahertz{900}, true}, Event{1, Call::kSmClock, {}, true},
                  Event{1, Call::kLockClock, Megahertz{907}, false}, Event{1, Call::kResetClock, {}, false},
                  Event{1, Call::kResetClock, {}, true}));
}

}  // namespace
}  // namespace perseus::gpu
