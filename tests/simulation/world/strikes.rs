//! What breaks, when it strikes.

use sumun::room::snapshot::Rules;

use super::{BEGIN, Event, World};
use crate::faults::{Fault, Sort};
use crate::network::Weather;

impl World {
    pub(super) fn plan_faults(&mut self) {
        for index in 0..self.scenario.faults.len() {
            let planned = self.scenario.faults[index];
            if let Fault::FallBack { tail_ms, .. } = planned.fault {
                self.plan(BEGIN + planned.at - tail_ms, Event::Keep);
            }
            self.plan(BEGIN + planned.at, Event::Fault(index));
        }
    }

    fn struck(&mut self, sort: Sort) {
        self.figures.struck.count(sort);
    }

    pub(super) fn fault(&mut self, index: usize) {
        let fault = self.scenario.faults[index].fault;
        self.door.model.note(&format!("{fault:?}"));
        let now = self.now;
        match fault {
            Fault::Crash {
                gateway,
                down_ms,
                disk,
            } => {
                if self.gateways[gateway].up {
                    self.crash(gateway, down_ms, disk);
                }
            }
            Fault::Lose { away_ms } => {
                self.losses += 1;
                self.door.lose();
                self.door.away_until = self.door.away_until.max(now + away_ms);
            }
            Fault::FallBack { away_ms, .. } => {
                self.losses += 1;
                self.door.fall_back();
                self.door.away_until = self.door.away_until.max(now + away_ms);
            }
            Fault::Silence { ms } => self.door.away_until = self.door.away_until.max(now + ms),
            Fault::Cut { gateway, ms } => {
                let name = self.gateways[gateway].name.clone();
                self.door.cut_off.insert(name, now + ms);
                self.door.model.forgot(gateway);
            }
            Fault::StoreClock { step_ms } => self.step_store(step_ms),
            Fault::GatewayClock { gateway, step_ms } => self.step_gateway(gateway, step_ms),
            Fault::Limit { limit } => self.change_limit(index, limit),
            Fault::Reset => match self.door.reset() {
                Ok(_) => self.struck(Sort::Reset),
                Err(_) => self.after(700, Event::Fault(index)),
            },
            Fault::LostReplies { .. } | Fault::Repeats { .. } | Fault::Delays { .. } => {
                self.weather(fault);
            }
        }
    }

    fn weather(&mut self, fault: Fault) {
        let (now, network) = (self.now, &mut self.door.network);
        let weather = |ms: u64, share, late_ms| Weather {
            until: now.saturating_add(ms),
            share,
            late_ms,
        };
        match fault {
            Fault::LostReplies { ms, share } => network.losing = weather(ms, share, 0),
            Fault::Repeats { ms, share, late_ms } => {
                network.repeating = weather(ms, share, late_ms);
            }
            Fault::Delays { ms, share, late_ms } => network.delaying = weather(ms, share, late_ms),
            _ => {}
        }
    }

    fn step_store(&mut self, step_ms: i64) {
        if step_ms < 0 && self.now < self.door.away_until + 1_000 {
            // The clock hides the silence, and no recovery waits for what
            // gateways heard in it.
            for gateway in 0..self.gateways.len() {
                self.door.model.forgot(gateway);
            }
            self.hidden_until = self.door.away_until;
        }
        self.door.skew += step_ms;
        self.door.at(self.now);
        self.struck(if step_ms < 0 {
            Sort::StoreClockBack
        } else {
            Sort::StoreClockForth
        });
    }

    fn step_gateway(&mut self, gateway: usize, step_ms: i64) {
        self.gateways[gateway].skew += step_ms;
        self.struck(if step_ms < 0 {
            Sort::GatewayClockBack
        } else {
            Sort::GatewayClockForth
        });
    }

    fn change_limit(&mut self, index: usize, limit: u64) {
        let version = self
            .gateways
            .iter()
            .find_map(|gateway| Some(gateway.seen.as_ref()?.meta.cfgver));
        let rules = Rules {
            limit: Some(limit),
            ..self.rules.clone()
        };
        let answer = version.map(|seen| self.door.configure(seen, &rules));
        match answer {
            Some(Ok(_)) if self.door.model.rules == rules => {
                let raised = rules.limit > self.rules.limit;
                self.rules = rules;
                self.struck(if raised {
                    Sort::LimitRaised
                } else {
                    Sort::LimitLowered
                });
            }
            _ => self.after(700, Event::Fault(index)),
        }
    }

    fn crash(&mut self, index: usize, down_ms: u64, disk: bool) {
        self.struck(Sort::Crash);
        let gateway = &mut self.gateways[index];
        if !disk {
            gateway.lose_disk();
            self.figures.struck.count(Sort::CrashWithoutDisk);
        }
        let mut stranded: Vec<usize> = gateway.outbox.iter().map(|n| n.visitor).collect();
        if let Some((_, newcomers)) = &gateway.in_flight {
            stranded.extend(newcomers.iter().map(|n| n.visitor));
        }
        gateway.crash();
        self.door.model.died(index, disk);
        for visitor in stranded {
            let next = self.visitors[visitor].dice.between(1_000, 4_000);
            self.after(next, Event::Arrive(visitor));
        }
        self.after(down_ms.max(2_000), Event::Restart(index));
    }
}
