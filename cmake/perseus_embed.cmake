# SPDX-License-Identifier: Apache-2.0
# perseus_embed(TARGET FILES...)
#
# Compiles text files into TARGET: at build time a page_files.cc is written that defines page_files()
# (perseus/report/page_files.h) with the files in the order given. Needs no tool but CMake.
#
# The same file is the script that writes it: cmake -DOUTPUT=... -DFILES=a|b -P perseus_embed.cmake
if(CMAKE_SCRIPT_MODE_FILE)
  set(entries "")
  string(REPLACE "|" ";" FILES "${FILES}")
  foreach(path ${FILES})
    get_filename_component(name ${path} NAME)
    file(READ ${path} text)
    string(APPEND entries "    {\"${name}\", R\"page~(${text})page~\"},\n")
  endforeach()
  file(WRITE ${OUTPUT} "// Written by cmake/perseus_embed.cmake. Do not edit.
#include \"perseus/report/page_files.h\"

namespace perseus::report {
namespace {
constexpr PageFile kFiles[] = {
${entries}};
}  // namespace
std::span<const PageFile> page_files() { return kFiles; }
}  // namespace perseus::report
")
  return()
endif()

set(PERSEUS_EMBED_SCRIPT ${CMAKE_CURRENT_LIST_FILE})
function(perseus_embed target)
  list(TRANSFORM ARGN PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/ OUTPUT_VARIABLE paths)
  list(JOIN paths "|" joined)
  set(output ${CMAKE_CURRENT_BINARY_DIR}/${target}_page_files.cc)
  add_custom_command(
    OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -DOUTPUT=${output} "-DFILES=${joined}" -P ${PERSEUS_EMBED_SCRIPT}
    DEPENDS ${paths} ${PERSEUS_EMBED_SCRIPT}
    COMMENT "Embedding the files of ${target}"
    VERBATIM)
  target_sources(${target} PRIVATE ${output})
endfunction()
