// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/realise_beam.h"
#include "perseus/solver/realise_slack.h"
#include <algorithm>
#include <cmath>
namespace perseus::solver::internal {
static std::uint64_t mix(std::uint64_t x){x^=x>>31;x*=0x9E3779B97F4A7C15ULL;x^=x>>29;x*=0xBF58476D1CE4E5B9ULL;return x^(x>>32);}
Beam::Beam(const FlatProblem& flat):flat_(&flat){
  reduced_minimum_.resize(flat.size);
  double tick=std::ldexp(1.0,flat.tick_exponent);
  for(Position p=0;p<flat.size;++p){auto&l=flat.ladder(p);double m=1e300;for(auto r=l.first;r<l.first+l.count;++r)m=std::min(m,flat.cost[r]+flat.flow[p]*tick*flat.time[r]);reduced_minimum_[p]=m;}
}
void Beam::assign_slots(const BeamWindow& w){
  slot_.assign(w.end-w.begin,0); std::vector<std::uint32_t> last(w.end-w.begin,0);
  // a slot is free after the last consumer in window
  std::vector<std::vector<std::uint32_t>> freed(w.end-w.begin);
  std::vector<std::uint32_t> free_slots; slots_=0;
  free_at_.assign(w.end-w.begin,0);
  for(Position p=w.begin;p<w.end;++p){ 
    for(auto&e:flat_->in_edges(p)) if(e.other>=w.begin){ // is p the last consumer of e.other?
      Position lastc=0; for(auto&o:flat_->out_edges(e.other)) if(o.other<w.end) lastc=std::max(lastc,o.other);
      if(lastc==p) free_slots.push_back(slot_[e.other-w.begin]); }
    if(free_slots.empty()) slot_[p-w.begin]=slots_++; else {slot_[p-w.begin]=free_slots.back();free_slots.pop_back();}
  }
}
bool Beam::run(const BeamWindow& w, std::span<const Ticks> deadline, std::span<const Ticks> end, Rungs& rungs){
  assign_slots(w);
  const double tick=std::ldexp(1.0,flat_->tick_exponent);
  ends_.assign(slots_,0); scores_.assign(1,0); hashes_.assign(1,0);
  trace_.resize(std::max<size_t>(trace_.size(),w.end-w.begin));
  for(Position p=w.begin;p<w.end;++p){
    const auto S=static_cast<std::uint32_t>(scores_.size());
    candidates_.clear();
    const auto& l=flat_->ladder(p); const double fl=flat_->flow[p];
    const std::uint32_t my=slot_[p-w.begin];
    for(std::uint32_t s=0;s<S;++s){
      const Ticks* e0=&ends_[s*slots_]; Ticks start=0;
      for(auto&e:flat_->in_edges(p)) start=std::max(start,(e.other>=w.begin?e0[slot_[e.other-w.begin]]:end[e.other])+e.lag);
      double loss=0; 
      std::uint64_t h=hashes_[s];
      for(auto&e:flat_->in_edges(p)) loss+=e.flow*tick*double(start-(e.other>=w.begin?e0[slot_[e.other-w.begin]]:end[e.other])-e.lag);
      // rungs
      Ticks limit=deadline[p]-start;
      auto hi=slowest_rung(*flat_,p,limit);
      // best reduced
      int cnt=0;
      // candidates: all rungs within loss threshold
      std::uint32_t lo=l.first;
      double thr=range; // joule loss
      for(std::uint32_t r=hi+1;r-->lo;){
        double red=flat_->cost[r]+fl*tick*flat_->time[r]-reduced_minimum_[p];
        if(red>thr && !(r==hi&&cnt==0)) { if(r==lo||cnt>0) {} if(r<hi && red>4*thr) {} if(!(r==lo&&cnt==0)) continue; }
        ++cnt;
        Candidate c; c.end=start+flat_->time[r];
        double sc=scores_[s]+loss+red;
        double bl=0; for(auto&o:flat_->out_edges(p)) if(o.other>=w.end) bl+=o.flow*tick*double(deadline[p]-c.end);
        bl+=flat_->sink_flow[p]*tick*double(flat_->target-c.end);
        c.score=float(sc+bl); c.parent=s;c.rung=r; c.hash=h+mix(c.end+my*0x1234567891ULL)-mix(e0[my]+my*0x1234567891ULL);
        candidates_.push_back(c);
      }
    }
    work_+=candidates_.size(); if(work_>w.work_limit) return false;
    // select
    auto cmp=[](const Candidate&a,const Candidate&b){return a.score!=b.score?a.score<b.score:(a.parent!=b.parent?a.parent<b.parent:a.rung<b.rung);};
    size_t keep=w.width;
    size_t pool=std::min(candidates_.size(),keep*2);
    if(candidates_.size()>pool) std::nth_element(candidates_.begin(),candidates_.begin()+pool-1,candidates_.end(),cmp), candidates_.resize(pool);
    std::sort(candidates_.begin(),candidates_.end(),cmp);
    size_t cap=1; while(cap<4*pool) cap*=2; seen_.assign(cap,0);
    std::vector<Trace>& tr=trace_[p-w.begin]; tr.clear();
    next_ends_.resize(keep*slots_); std::vector<float> ns; std::vector<std::uint64_t> nh;
    for(auto&c:candidates_){ if(tr.size()>=keep)break;
      std::uint64_t h=c.hash|1; size_t x=(h*0x9E3779B97F4A7C15ULL>>20)&(cap-1); bool dup=false; while(seen_[x]){if(seen_[x]==h){dup=true;break;}x=(x+1)&(cap-1);} if(dup)continue; seen_[x]=h;
      std::copy_n(&ends_[c.parent*slots_],slots_,&next_ends_[tr.size()*slots_]); next_ends_[tr.size()*slots_+my]=c.end;
      tr.push_back({c.parent,c.rung}); ns.push_back(c.score); nh.push_back(c.hash);
    }
    ends_.swap(next_ends_); scores_.swap(ns); hashes_.swap(nh);
    // normalise
    float m=scores_[0]; (void)m;
  }
  std::uint32_t s=0; last_score=scores_[0];
  for(Position p=w.end;p-->w.begin;){auto&t=trace_[p-w.begin][s]; rungs[p]=t.rung; s=t.parent;}
  return true;
}
}
