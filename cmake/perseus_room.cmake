# SPDX-License-Identifier: Apache-2.0
# perseus_room(NAME [DEPS rooms...] [LIBS external targets...] [PUBLIC | PRIVATE headers...]
#              [TEST_DEPS rooms...] [TEST_LIBS external targets...])
#
# A room is one folder, one target and one namespace. Every *.cc of the folder belongs to the library,
# every *_test.cc to the room's test program: no file can be forgotten. DEPS are visible to users of the room
# because its headers may include theirs; LIBS stay private. PUBLIC names the headers that other rooms may include and that
# are installed, or PRIVATE those that are not; the rest is the other. A main.cc is left to the program that wants it. scripts/check_layers reads these calls.
function(perseus_room name)
  cmake_parse_arguments(ARG "" "" "DEPS;LIBS;PUBLIC;PRIVATE;TEST_DEPS;TEST_LIBS" ${ARGN})
  if(ARG_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "perseus_room(${name}): unknown arguments ${ARG_UNPARSED_ARGUMENTS}")
  endif()
  set(dir ${PROJECT_SOURCE_DIR}/perseus/${name})
  file(GLOB sources CONFIGURE_DEPENDS ${dir}/*.cc)
  file(GLOB headers CONFIGURE_DEPENDS ${dir}/*.h)
  if(ARG_PUBLIC)
    list(TRANSFORM ARG_PUBLIC PREPEND ${dir}/ OUTPUT_VARIABLE headers)
  endif()
  list(TRANSFORM ARG_PRIVATE PREPEND ${dir}/ OUTPUT_VARIABLE private_headers)
  list(REMOVE_ITEM headers ${private_headers})
  set(tests ${sources})
  list(FILTER sources EXCLUDE REGEX "(_test|/main)\\.cc$")
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  if(NOT sources)  # a room that nobody has moved into yet
    return()
  endif()
  set_property(GLOBAL APPEND PROPERTY PERSEUS_ROOMS ${name})

  add_library(perseus_${name} STATIC ${sources})
  add_library(perseus::${name} ALIAS perseus_${name})
  set_target_properties(perseus_${name} PROPERTIES EXPORT_NAME ${name})
  target_compile_features(perseus_${name} PUBLIC cxx_std_23)
  target_sources(perseus_${name} PUBLIC
    FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR} FILES ${headers})
  target_include_directories(perseus_${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
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
    foreach(dep ${ARG_TEST_DEPS})
      # A room that stands further down is a target only when the build files are generated.
      target_link_libraries(${name}_test PRIVATE $<TARGET_NAME_IF_EXISTS:perseus_${dep}>)
    endforeach()
    target_link_libraries(${name}_test PRIVATE
      perseus_${name} perseus_flags ${ARG_LIBS} ${ARG_TEST_LIBS} GTest::gmock_main)
    # What tests do themselves is little; a fifth of their compile time went into making that fast (GCC 12.2).
    target_compile_options(${name}_test PRIVATE $<$<CONFIG:RelWithDebInfo>:-O1>)
    # Where a test finds recorded data; __FILE__ will not do, since a compiler cache may make it relative. Only the tests that
    # ask for it get it: the others compile alike in every checkout.
    foreach(test ${tests})
      file(STRINGS ${test} wants_folder REGEX "PERSEUS_SOURCE_DIR" LIMIT_COUNT 1)
      if(wants_folder)
        set_property(SOURCE ${test} APPEND PROPERTY COMPILE_DEFINITIONS PERSEUS_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
      endif()
    endforeach()
    gtest_discover_tests(${name}_test TEST_PREFIX "${name}." PROPERTIES LABELS unit TIMEOUT 300
                         DISCOVERY_MODE PRE_TEST)
  endif()
endfunction()

# perseus_apart(ROOM...): none of these rooms may reach another one, on any path. Only scripts/check_layers acts on it.
function(perseus_apart)
endfunction()
