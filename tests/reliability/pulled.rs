//! The cable is pulled, fifty times: a SoftHSM2 behind p11-kit's server, whose processes are killed and stopped.

use crate::{
    Proof,
    cable::{Hsm, Loss, lose_again_and_again, pipeline, stand},
    fixture::{self, Fixture, P11_KIT, PIN, WAYS},
    load::Load,
};

const ROUNDS: usize = 50;

pub(crate) fn proof() -> Proof {
    Proof {
        name: "a_device_that_is_lost_fifty_times_under_load_costs_no_request_while_a_token_is_usable",
        test: fifty_times,
        lack: P11_KIT.lack(),
    }
}

fn fifty_times(name: &str) {
    fixture::run(&P11_KIT, &WAYS[1], name, async |hsm| {
        hsm.create("ci");
        let modules = hsm.modules();
        let pair = hsm.generate(&modules, "ci", "grant").await;
        let (stand, clock) = stand().await;
        let uri = hsm.uri("pkcs11:token=ci;object=grant").to_string();
        let pipeline = pipeline(&stand, &clock, uri, &pair.spki, PIN);
        lose_again_and_again(hsm, &stand, Load::start(pipeline, clock), ROUNDS).await;
    });
}

impl Hsm for Fixture {
    async fn lose(&mut self, loss: Loss) {
        match loss {
            Loss::Killed => self.stop(),
            Loss::Paused => self.freeze(),
            Loss::Restarted => {
                self.stop();
                self.resume();
            }
        }
    }

    async fn bring_back(&mut self, loss: Loss) {
        match loss {
            Loss::Killed => self.resume(),
            Loss::Paused => self.thaw(),
            Loss::Restarted => {}
        }
    }
}
