# SPDX-License-Identifier: Apache-2.0
# perseus_room(NAME [DEPS rooms...] [LIBS external targets...])
#
# A room is one folder, one target and one namespace. Every *.cc of the folder belongs to the library,
# every *_test.cc to the room's test program: no file can be forgotten. DEPS are visible to users of the room
# because its headers may include theirs; LIBS stay private.
function(perseus_room name)
  cmake_parse_arguments(ARG "" "" "DEPS;LIBS;TEST_LIBS" ${ARGN})
  set(dir ${PROJECT_SOURCE_DIR}/perseus/${name})
  file(GLOB sources CONFIGURE_DEPENDS ${dir}/*.cc)
  set(tests ${sources})
  list(FILTER sources EXCLUDE REGEX "_test\\.cc$")
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  if(NOT sources)  # a room that nobody has moved into yet
    return()
  endif()
  set_property(GLOBAL APPEND PROPERTY PERSEUS_ROOMS ${name})

  add_library(perseus_${name} STATIC ${sources})
  add_library(perseus::${name} ALIAS perseus_${name})
  set_target_properties(perseus_${name} PROPERTIES EXPORT_NAME ${name})
  target_compile_features(perseus_${name} PUBLIC cxx_std_23)
  target_include_directories(perseus_${name} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  foreach(dep ${ARG_DEPS})
    if(TARGET perseus_${dep})
      target_link_libraries(perseus_${name} PUBLIC perseus_${dep})
    endif()
  endforeach()
  target_link_libraries(perseus_${name} PRIVATE ${ARG_LIBS} $<BUILD_INTERFACE:perseus_flags>)

  if(PERSEUS_DEVELOPER_MODE AND tests)
    find_package(GTest REQUIRED)
    include(GoogleTest)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE
      perseus_${name} perseus_flags ${ARG_LIBS} ${ARG_TEST_LIBS} GTest::gmock_main)
    gtest_discover_tests(${name}_test TEST_PREFIX "${name}." PROPERTIES LABELS unit TIMEOUT 300
                         DISCOVERY_MODE PRE_TEST)
  endif()
endfunction()
