# SPDX-License-Identifier: Apache-2.0
# Compiler settings that every target shares.
set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
set_property(GLOBAL PROPERTY USE_FOLDERS ON)

find_program(PERSEUS_CCACHE ccache)
if(PERSEUS_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${PERSEUS_CCACHE})
endif()

add_library(perseus_flags INTERFACE)
if(PERSEUS_DEVELOPER_MODE)
  target_compile_options(perseus_flags INTERFACE
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wold-style-cast
    -Wnon-virtual-dtor -Woverloaded-virtual -Wcast-align -Wnull-dereference -Werror
    # A designated initialiser leaves the other members at their defaults on purpose.
    -Wno-missing-field-initializers)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # GCC 12 reports impossible null dereferences (-O2) and overlaps (-O3) inside the standard library.
    target_compile_options(perseus_flags INTERFACE -Wno-null-dereference -Wno-restrict)
  endif()
endif()
if(PERSEUS_SANITIZERS AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # Under -fsanitize GCC 12 sees uninitialised members inside std::function (std::regex of GoogleMock).
  target_compile_options(perseus_flags INTERFACE -Wno-maybe-uninitialized)
endif()
if(PERSEUS_SANITIZERS)
  add_compile_options(-fsanitize=${PERSEUS_SANITIZERS} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${PERSEUS_SANITIZERS})
endif()
if(PERSEUS_LIBFUZZER)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(PERSEUS_COVERAGE)
  add_compile_options(--coverage)
  add_link_options(--coverage)
endif()
