# SPDX-License-Identifier: Apache-2.0
# perseus_standin(NAME TEST DEFINITION): a library with a vendor's binary interface for a test program to load, made of the
# calling folder's standin.cc with DEFINITION and showing only what its exports.map lists. Never installed.
function(perseus_standin name test definition)
  add_library(${name} MODULE EXCLUDE_FROM_ALL standin.cc)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE perseus_flags)
  target_compile_definitions(${name} PRIVATE ${definition})
  target_link_options(${name} PRIVATE -Wl,--version-script=${CMAKE_CURRENT_SOURCE_DIR}/exports.map)
  set_target_properties(${name} PROPERTIES LINK_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/exports.map)
  add_dependencies(${test} ${name})
endfunction()
